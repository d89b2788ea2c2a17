"""Stages of a task, and their shares of the bar: declared by the task, or derived from earlier runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: Stages per task with kept durations. With more, a stage is probably one item of many, not a kind of work.
MAX_STAGES = 50
#: Significant characters of a stage's name.
_MAX_NAME = 100
#: Weight of the newest run against earlier ones.
_NEWEST_WEIGHT = 0.3


@dataclass(frozen=True, slots=True)
class Span:
    """
    The position of the running stage within the whole, in percent.

    Args:
        before: Percent before it.
        weight: Percent that it takes.
    """

    before: float = 0.0
    weight: float = 0.0

    @property
    def end(self) -> float:
        """Percent at its end."""
        return self.before + self.weight

    def at(self, fraction: float) -> float:
        """Return the percentage at a fraction of the stage, 0 to 1."""
        return self.before + self.weight * fraction


class Stages:
    """
    The stages of one attempt, in order. Pure: times are passed in.

    A stage takes the weight set by the task, otherwise its share of the rest in earlier runs, or the whole rest if
    there are none. A stage that begins again is another stage: the encoding of the second file follows that of the
    first.

    Args:
        known: Seconds that each stage took in earlier runs, by its key.
    """

    def __init__(self, known: Mapping[str, float]) -> None:
        self._known = known
        self._expected = dict(known)
        self._counts: dict[str, int] = {}
        self._durations: dict[str, float] = {}
        self._running: tuple[str, float] | None = None
        #: Position of the running stage within the bar. Replaced as a whole: another thread reads it.
        self.bar = Span()
        #: Its position within the time of the whole task, if that is known; otherwise the same.
        self.time = Span()
        #: Whether an unknown number of stages may follow.
        self.is_open_ended = False

    def begin(self, name: str, weight: float | None, now: float) -> None:
        """
        End the current stage, and begin another.

        Args:
            name: Of the stage.
            weight: Percent of the whole bar; ``None``, or an invalid weight: as in earlier runs.
            now: Monotonic seconds.
        """
        self.end(now)
        key = self._key(name)
        share = self._take_share(key)
        given = None if weight is None or not weight >= 0 else weight  # NaN is neither
        self.is_open_ended = given is None and not self._known and self.bar.end == 0
        self.bar = _next_span(self.bar, share, given)
        self.time = _next_span(self.time, share, None) if self._known else self.bar
        self._running = (key, now)

    def end(self, now: float) -> None:
        """Count the running stage as complete."""
        if self._running is None:
            return
        key, began_at = self._running
        self._running = None
        self.bar, self.time = Span(self.bar.end), Span(self.time.end)
        if len(self._durations) <= MAX_STAGES:
            self._durations[key] = now - began_at

    def recorded_durations(self, now: float) -> dict[str, float]:
        """
        End the last stage of a successful attempt, and return the durations to record.

        Returns:
            Seconds by key, averaged with earlier runs; empty if there were too many stages.
        """
        self.end(now)
        if len(self._durations) > MAX_STAGES:
            return {}
        return {key: self._weighted(key, seconds) for key, seconds in self._durations.items()}

    def _key(self, name: str) -> str:
        name = str(name)[:_MAX_NAME]
        count = self._counts[name] = self._counts.get(name, 0) + 1
        return name if count == 1 else f"{name} #{count}"

    def _take_share(self, key: str) -> float:
        """Return the share of the rest that a stage takes, 0 to 1; all of it if no other is expected."""
        if not self._known:
            return 1.0
        own = self._expected.pop(key, None)
        if own is None:  # a new one: the average of the others
            own = sum(self._known.values()) / len(self._known)
        expected = own + sum(self._expected.values())
        return own / expected if expected > 0 else 1.0

    def _weighted(self, key: str, seconds: float) -> float:
        before = self._known.get(key, seconds)
        return before + _NEWEST_WEIGHT * (seconds - before)


def _next_span(span: Span, share: float, weight: float | None) -> Span:
    left = max(0.0, 100.0 - span.end)
    return Span(span.end, left * share if weight is None else min(weight, left))
