"""Markdown tables of the results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from .bars import BARS, Bar
from .errors import BenchmarkError
from .peers import PEERS
from .results import Results
from .scenarios import SCENARIOS, Metric, Scenario

#: Markers in a file; the text between them is generated.
BEGIN, END = "<!-- made by make bench: begin -->", "<!-- made by make bench: end -->"
#: Columns of the short table: scenario, metric and heading.
_SHORT = (
    ("fanout", "deliveries", "one channel, deliveries/s"),
    ("per-user", "deliveries", "channel per user, deliveries/s"),
    ("per-user", "half_p99", "p99 at half load, ms"),
    ("connecting", "memory", "KB per idle connection"),
    ("connecting", "connects", "connects/s"),
)
#: Plots of the full report: scenario, metric and title.
PLOTS = (
    ("fanout", "deliveries", "One channel, 1,000 sockets: deliveries a second"),
    ("per-user", "deliveries", "1,000 users, a channel each: deliveries a second"),
    ("overload", "age_max", "Ten times too much: age of the oldest snapshot shown, ms"),
    ("connecting", "memory", "Memory of an idle connection, KB"),
)


def full_report(results: Results) -> str:
    """Return the full report as Markdown."""
    parts = [_machine(results), _bars(results)]
    if any(results.samples.get(scenario) for scenario, _, _ in _SHORT):
        parts.insert(0, short_report(results))
    for scenario, metric, title in PLOTS:
        if results.samples.get(scenario):
            parts.append(f"![{title}](performance-{scenario}-{metric.replace('_', '-')}.svg)")
    parts += [_scenario(results, scenario) for key, scenario in SCENARIOS.items() if _has(results, key)]
    return "\n\n".join(parts)


def short_report(results: Results) -> str:
    """Return the short table: five figures of jobpush and its peers."""
    columns = [column for column in _SHORT if results.samples.get(column[0])]
    if not columns:
        raise BenchmarkError("the short table needs one of the scenarios " + ", ".join({name for name, _, _ in _SHORT}))
    keys = list(dict.fromkeys(key for scenario, _, _ in columns for key in _subjects(results, SCENARIOS[scenario])))
    titles = {one.key: one.title for name, _, _ in columns for one in SCENARIOS[name].subjects}
    rows = []
    for key in keys:
        if key in ("ours", *(peer.key for peer in PEERS)):
            values = [results.median(scenario, key, metric) for scenario, metric, _ in columns]
            texts = [titles[key], *(_value(value, digits_of(value)) for value in values)]
            rows.append([f"**{text}**" for text in texts] if key == "ours" else texts)
    machine = results.machine
    caption = f"{machine['processor']}, one core for the server and another for the load; commit {machine['commit']}."
    return "\n\n".join([_table(["", *(head for _, _, head in columns)], rows), caption])


def terminal_report(results: Results) -> list[tuple[str, str, str, str]]:
    """Return rows of title, goal, result and verdict for the bars that were measured."""
    return [(bar.title, bar.goal, *_verdict(results, bar)) for bar in BARS if bar.value(results) is not None]


def replace_between_markers(path: Path, text: str) -> None:
    """
    Replace the text between the markers of a file.

    Raises:
        BenchmarkError: If the file has no markers.
    """
    content = path.read_text()
    before, begin, rest = content.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BenchmarkError(f"{path} has no lines {BEGIN!r} and {END!r}")
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def _machine(results: Results) -> str:
    machine = results.machine
    return (
        f"Commit {machine['commit']}, {machine['date']}, on {machine['processor']} ({machine['cores']} cores; load "
        f"average {machine['load']}), {machine['system']}, Python {machine['python']}, node {machine['node']}, nginx "
        f"{machine['nginx']}, Redis {machine['redis']}. The server has one core, load, publisher and Redis the others; "
        "figures are medians, ± is half of the range from the smallest to the largest."
    )


def _bars(results: Results) -> str:
    rows = []
    for bar in BARS:
        if bar.value(results) is not None:
            figure, verdict = _verdict(results, bar)
            rows.append([bar.title, bar.goal, bar.stretch or "–", figure, verdict])
    return _table(["figure", "bar", "moonshot", "here", ""], rows)


def _verdict(results: Results, bar: Bar) -> tuple[str, str]:
    value = bar.value(results)
    assert value is not None
    if bar.is_stretch_met(value):
        verdict = "moonshot"
    elif bar.goal == "–":
        verdict = ""
    else:
        verdict = "met" if bar.is_met(value) else "**missed**"
    return bar.text(results, value), verdict


def _scenario(results: Results, scenario: Scenario) -> str:
    metrics = {
        name: metric
        for name, metric in scenario.metrics.items()
        if any(results.values(scenario.key, key, name) for key in _subjects(results, scenario))
    }
    titles = {one.key: one.title for one in scenario.subjects}
    rows = []
    for key in _subjects(results, scenario):
        rows.append([titles[key], *(_cell(results, scenario.key, key, name, one) for name, one in metrics.items())])
    for key, reason in results.failures.get(scenario.key, {}).items():
        last = reason.strip().splitlines()[-1][:160] if reason.strip() else "no reason given"
        rows.append([titles[key], f"failed: {last}", *[""] * (len(metrics) - 1)])
    heads = ["", *(metric.title for metric in metrics.values())]
    return f"### {scenario.title}\n\n{scenario.text}\n\n{_table(heads, rows)}"


def _cell(results: Results, scenario: str, subject: str, name: str, metric: Metric) -> str:
    value = results.steady(scenario, subject, name)
    spread = results.spread(scenario, subject, name)
    text = _value(value, metric.digits)
    if value is not None and math.isfinite(value) and metric.unit not in ("/s", ""):
        text += f" {metric.unit}"
    return text if value is None or spread is None else f"{text} ± {spread:.0%}"


def _value(value: float | None, digits: int) -> str:
    if value is None:
        return "–"
    return f"{value:,.{digits}f}" if math.isfinite(value) else "stands still"


def digits_of(value: float | None) -> int:
    """Return the number of digits to show after the decimal point."""
    return 0 if value is None or value >= 100 else 1 if value >= 1 else 2


def _subjects(results: Results, scenario: Scenario) -> Sequence[str]:
    known = results.samples.get(scenario.key, {})
    return [one.key for one in scenario.subjects if one.key in known]


def _has(results: Results, scenario: str) -> bool:
    return bool(results.samples.get(scenario) or results.failures.get(scenario))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
