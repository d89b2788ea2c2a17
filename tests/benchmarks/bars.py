"""Goals for the figures of the benchmark; most figures are ratios within one run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .peers import PEERS
from .results import Results
from .scenarios.per_user import RATES


@dataclass(frozen=True, slots=True)
class Bar:
    """
    A goal for one figure.

    Args:
        title: What is measured.
        goal: The goal, in words.
        value: Returns the figure; ``None`` if it was not measured.
        text: Returns the text for the table.
        limit: The value that meets the goal.
        stretch: The stretch goal, in words; empty if there is none.
        stretch_limit: The value that meets the stretch goal; ``None`` if there is none.
        is_more_better: Whether larger values are better.
    """

    title: str
    goal: str
    value: Callable[[Results], float | None]
    text: Callable[[Results, float], str]
    limit: float
    stretch: str = ""
    stretch_limit: float | None = None
    is_more_better: bool = True

    def is_met(self, value: float) -> bool:
        """Return whether a figure meets the goal."""
        return self._reaches(value, self.limit)

    def is_stretch_met(self, value: float) -> bool:
        """Return whether a figure meets the stretch goal, if there is one."""
        return self.stretch_limit is not None and self._reaches(value, self.stretch_limit)

    def _reaches(self, value: float, limit: float) -> bool:
        return value >= limit if self.is_more_better else value <= limit


def _ratio(scenario: str, metric: str, ours: str, theirs: str) -> Callable[[Results], float | None]:
    def value(results: Results) -> float | None:
        above, below = results.median(scenario, ours, metric), results.median(scenario, theirs, metric)
        return above / below if above is not None and below else None

    return value


def _figure(scenario: str, metric: str, ours: str = "ours") -> Callable[[Results], float | None]:
    return lambda results: results.median(scenario, ours, metric)


def _latency_against_best(load: str) -> Callable[[Results], float | None]:
    """Latency relative to the fastest peer: p50 or p99, the worse of both. Infinite if the rate was not sustained."""

    def value(results: Results) -> float | None:
        ratios = []
        for metric in (f"{load}_p50", f"{load}_p99"):
            best, ours = _best_of_others(results, metric), results.steady("per-user", "ours", metric)
            if best is None or not results.samples["per-user"].get("ours"):
                return None
            ratios.append(math.inf if ours is None else ours / best[0])
        return max(ratios)

    return value


def _best_of_others(results: Results, metric: str) -> tuple[float, str] | None:
    figures = ((results.steady("per-user", peer.key, metric), peer.title) for peer in PEERS)
    return min(((figure, title) for figure, title in figures if figure), default=None)


def _latency_text(load: str) -> Callable[[Results, float], str]:
    def text(results: Results, value: float) -> str:
        parts = []
        for name in ("p50", "p99"):
            ours, best = (
                results.steady("per-user", "ours", f"{load}_{name}"),
                _best_of_others(results, f"{load}_{name}"),
            )
            theirs = "nobody else" if best is None else f"{best[0]:.3f} of {best[1]}"
            parts.append(f"{name} {'–' if ours is None else f'{ours:.3f}'} against {theirs}")
        return "; ".join(parts) + " (ms)"

    return text


def _latency_against_limits(p50: float, p99: float) -> Callable[[Results], float | None]:
    """Latency at half load divided by its limit in milliseconds: p50 or p99, the worse of both."""

    def value(results: Results) -> float | None:
        figures = [results.steady("per-user", "ours", f"half_{name}") for name in ("p50", "p99")]
        parts = [figure / limit for figure, limit in zip(figures, (p50, p99), strict=True) if figure is not None]
        return max(parts) if len(parts) == 2 else None

    return value


def _half_load_text(results: Results, value: float) -> str:
    p50, p99 = (results.steady("per-user", "ours", f"half_{name}") for name in ("p50", "p99"))
    return f"{p50:.3f} / {p99:.3f} ms"


def _compared(scenario: str, metric: str, ours: str, theirs: str, name: str) -> Callable[[Results, float], str]:
    def text(results: Results, value: float) -> str:
        mine, others = results.median(scenario, ours, metric), results.median(scenario, theirs, metric)
        return (
            f"{_number(mine)} against {_number(others)} of {name}: {value:.2g} ×"
            if value < 10
            else (f"{_number(mine)} against {_number(others)} of {name}: {value:.0f} ×")
        )

    return text


def _plain(unit: str, digits: int = 0) -> Callable[[Results, float], str]:
    return lambda results, value: f"{value:,.{digits}f} {unit}"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _idle_connections(results: Results) -> float | None:
    """Return the number of connections held: 0 after a failure, ``None`` for a run with only a few thousand."""
    if "ours-many" in results.failures.get("growth", {}):
        return 0.0
    connections = results.median("growth", "ours-many", "connections")
    return connections if connections and connections > 10_000 else None


def _at_many(ratio: Callable[[Results], float | None]) -> Callable[[Results], float | None]:
    return lambda results: ratio(results) if _idle_connections(results) else None


def _growth_of_event(results: Results) -> float | None:
    many, few = results.median("growth", "ours-many", "event_cpu"), results.median("growth", "ours-few", "event_cpu")
    return many / few if many and few else None


def _growth_of_delivery(results: Results, subject: str) -> float | None:
    """Return the CPU of a delivery at 18,000 connections as a multiple of that at 1,000."""
    many, some = (results.median("growth", f"{subject}-{count}", "cpu") for count in ("many", "some"))
    return many / some if many and some else None


def _growth_beside_machine(results: Results) -> float | None:
    ours, machine = _growth_of_delivery(results, "ours"), _growth_of_delivery(results, "wall")
    return ours / machine if ours and machine else None


def _growth_text(results: Results, value: float) -> str:
    ours, machine = _growth_of_delivery(results, "ours"), _growth_of_delivery(results, "wall")
    return f"{ours:.2f} ×, and {machine:.2f} × in the loop in C: {value:.2f}"


def _job_difference(subject: str) -> Callable[[Results], float | None]:
    """The lower quartile of the overhead, in percent; 0 if it is negative, because no difference is visible then."""

    def value(results: Results) -> float | None:
        low = results.median("job", subject, "wall_low")
        return None if low is None else max(0.0, low)

    return value


def _job_text(subject: str) -> Callable[[Results, float], str]:
    def text(results: Results, value: float) -> str:
        wall, low, high = (results.median("job", subject, metric) for metric in ("wall", "wall_low", "wall_high"))
        return f"{wall:+.1f} % ({low:+.1f} to {high:+.1f})"

    return text


def _redis_text(results: Results, value: float) -> str:
    names = ("cpu", "cpu_history", "cpu_many", "bytes", "bytes_many")
    cpu, history, many, size, size_many = (results.median("redis", "ours", name) or 0 for name in names)
    times = f"{cpu:.0f} µs, {history:.0f} with full histories, {many:.0f} of 2,000 users"
    return f"{times}; {size:,.0f} and {size_many:,.0f} bytes"


def _redis_growth(results: Results) -> float | None:
    return _largest(
        _ratio_within("redis", "cpu_history", "cpu")(results),
        _ratio_within("redis", "cpu_many", "cpu")(results),
        _ratio_within("redis", "bytes_many", "bytes")(results),
    )


def _ratio_within(scenario: str, above: str, below: str) -> Callable[[Results], float | None]:
    def value(results: Results) -> float | None:
        one, other = results.median(scenario, "ours", above), results.median(scenario, "ours", below)
        return one / other if one is not None and other else None

    return value


def _largest(*values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return max(known) if known else None


BARS: Sequence[Bar] = (
    Bar(
        "fan-out with a backlog, deliveries/s",
        "3 × nchan",
        _ratio("fanout", "deliveries", "ours", "nchan"),
        _compared("fanout", "deliveries", "ours", "nchan", "nchan"),
        3,
        "5 × nchan",
        5,
    ),
    Bar(
        "fan-out one event at a time, deliveries/s",
        "nchan",
        _ratio("fanout", "deliveries_one", "ours", "nchan"),
        _compared("fanout", "deliveries_one", "ours", "nchan", "nchan"),
        1,
    ),
    Bar(
        "the same, beside a loop in C that only sends",
        "–",
        _ratio("fanout", "deliveries_one", "ours", "wall"),
        _compared("fanout", "deliveries_one", "ours", "wall", "the loop"),
        0,
        "0.9 ×",
        0.9,
    ),
    Bar(
        "per user, deliveries/s",
        "1.3 × node ws",
        _ratio("per-user", "deliveries", "ours", "ws"),
        _compared("per-user", "deliveries", "ours", "ws", "node ws"),
        1.3,
        "1.8 × node ws",
        1.8,
    ),
    Bar(
        "per user, deliveries/s",
        "6 × Flask-SocketIO",
        _ratio("per-user", "deliveries", "ours", "flask-socketio"),
        _compared("per-user", "deliveries", "ours", "flask-socketio", "Flask-SocketIO"),
        6,
    ),
    Bar(
        "ten times more than can be sent: age of the oldest snapshot shown",
        "250 ms",
        _figure("overload", "age_max"),
        _plain("ms"),
        250,
        "100 ms",
        100,
        is_more_better=False,
    ),
    Bar(
        "publisher to socket at half of what each can, p50 / p99",
        "better than every other",
        _latency_against_best("half"),
        _latency_text("half"),
        1,
        is_more_better=False,
    ),
    Bar(
        "the same in itself",
        "–",
        _latency_against_limits(0.3, 2.0),
        _half_load_text,
        math.inf,
        "0.3 / 2 ms",
        1,
        is_more_better=False,
    ),
    *(
        Bar(
            f"the same at {rate:,} events a second, where the server keeps up",
            "better than every other",
            _latency_against_best(f"at_{rate}"),
            _latency_text(f"at_{rate}"),
            1,
            is_more_better=False,
        )
        for rate in RATES
    ),
    Bar(
        f"p50 at {RATES[0]:,} events a second, beside a loop in C from Redis to the socket",
        "–",
        _ratio("per-user", f"at_{RATES[0]}_p50", "ours", "relay"),
        _compared("per-user", f"at_{RATES[0]}_p50", "ours", "relay", "the loop (ms)"),
        0,
    ),
    Bar(
        "100 of 1,000 stop reading: p99 of the others",
        "unchanged (1.5 ×)",
        _figure("slow", "ratio_p99"),
        _plain("×", 2),
        1.5,
        is_more_better=False,
    ),
    Bar(
        "memory of an idle connection, signed in",
        "4 KB",
        _figure("connecting", "memory"),
        _plain("KB", 1),
        4,
        "2 KB",
        2,
        is_more_better=False,
    ),
    Bar(
        "server CPU of a connect with a token, beside one with a session",
        "1.15 ×",
        _ratio("tokens", "cpu", "ours-token", "ours"),
        _compared("tokens", "cpu", "ours-token", "ours", "the session (ms)"),
        1.15,
        is_more_better=False,
    ),
    Bar(
        "connects with sign-in and snapshot",
        "2 × Flask-SocketIO",
        _ratio("connecting", "connects", "ours", "flask-socketio"),
        _compared("connecting", "connects", "ours", "flask-socketio", "Flask-SocketIO"),
        2,
    ),
    Bar(
        "the same, beside node ws without either",
        "–",
        _ratio("connecting", "connects", "ours", "ws"),
        _compared("connecting", "connects", "ours", "ws", "node ws"),
        0,
        "node ws",
        1,
    ),
    Bar(
        "page open to first correct bar: messages after the handshake",
        "none",
        _figure("page", "questions"),
        lambda results, value: f"{value:.0f}; {results.median('page', 'ours', 'open_p50'):.1f} ms",
        0,
        is_more_better=False,
    ),
    Bar(
        "idle connections on one process",
        "18,000",
        _idle_connections,
        _plain("connections"),
        18_000,
    ),
    Bar(
        "CPU of a delivery, 18,000 connections beside 1,000",
        "flat (1.25 × what the kernel adds)",
        _at_many(_growth_beside_machine),
        _growth_text,
        1.25,
        is_more_better=False,
    ),
    Bar(
        "CPU of an event to one user, 18,000 connections beside 100",
        "flat (1.25 ×)",
        _at_many(_growth_of_event),
        _plain("×", 2),
        1.25,
        is_more_better=False,
    ),
    Bar(
        "progress.update that sends nothing",
        "tqdm.update",
        _ratio("update", "call", "ours", "tqdm"),
        _compared("update", "call", "ours", "tqdm", "tqdm (ns)"),
        1,
        "half of it",
        0.5,
        is_more_better=False,
    ),
    Bar(
        "worker CPU of a published event, one task",
        "1/10 of update_state",
        _ratio("publish", "event_cpu", "ours", "update-state"),
        _compared("publish", "event_cpu", "ours", "update-state", "update_state (µs)"),
        0.1,
        "1/30",
        1 / 30,
        is_more_better=False,
    ),
    Bar(
        "worker CPU of a published event, fifty tasks",
        "1/10 of update_state",
        _ratio("publish", "event_cpu", "ours-many", "update-state-many"),
        _compared("publish", "event_cpu", "ours-many", "update-state-many", "update_state in fifty tasks (µs)"),
        0.1,
        "1/30",
        1 / 30,
        is_more_better=False,
    ),
    Bar(
        "a whole encode job, with and without jobpush",
        "no visible difference",
        _job_difference("ours-film"),
        _job_text("ours-film"),
        0,
        is_more_better=False,
    ),
    Bar(
        "the same of a loop in Python",
        "no visible difference",
        _job_difference("ours-loop"),
        _job_text("ours-loop"),
        0,
        is_more_better=False,
    ),
    Bar(
        "start and end of a task that does nothing",
        "–",
        _figure("job", "more", "ours-nothing"),
        _plain("ms", 1),
        math.inf,
        is_more_better=False,
    ),
    Bar(
        "Redis: CPU of an event, memory of a running task",
        "flat (1.5 ×)",
        _redis_growth,
        _redis_text,
        1.5,
        is_more_better=False,
    ),
    Bar("`import jobpush` in a worker", "60 ms", _figure("start", "import"), _plain("ms"), 60, is_more_better=False),
    Bar(
        "`jobpush gateway` to first accept",
        "600 ms",
        _figure("start", "accept"),
        _plain("ms"),
        600,
        is_more_better=False,
    ),
)
