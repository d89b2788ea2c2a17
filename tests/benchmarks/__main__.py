"""``python -m tests.benchmarks``: measure, print, and write the tables."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from . import machine
from .errors import BenchmarkError
from .plots import write_plots
from .processes import ROOT
from .report import full_report, replace_between_markers, terminal_report
from .results import Results
from .scenarios import FULL, QUICK, SCENARIOS, Pace, Scenario, Subject

DOCS = ROOT / "docs"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--quick", "is_quick", is_flag=True, help="Run one short round of some scenarios.")
@click.option("--scenario", "scenarios", default="", metavar="A,B", help="Scenarios to run; --list shows the names.")
@click.option("--only", default="", metavar="A,B", help="Subjects to measure: ours, nchan, ws …")
@click.option("--rounds", type=click.IntRange(min=1), help="Rounds of each scenario.  [default: 3; quick: 1]")
@click.option("--seconds", type=float, help="Seconds of each measurement.  [default: 0.8; quick: 0.5]")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Write results to a file.")
@click.option("--from", "from_path", type=click.Path(path_type=Path, exists=True), help="Read results; do not measure.")
@click.option("--write", "is_written", is_flag=True, help="Write docs/performance.* and docs/*.svg.")
@click.option("--list", "is_listed", is_flag=True, help="List scenarios and subjects.")
def main(
    is_quick: bool,
    scenarios: str,
    only: str,
    rounds: int | None,
    seconds: float | None,
    json_path: Path | None,
    from_path: Path | None,
    is_written: bool,
    is_listed: bool,
) -> None:
    """
    Measure jobpush and its peers with the same work on this machine.

    Each server has one core, and the load has the others. The subjects take turns, and the medians count. Every frame
    is checked: a lost or duplicated frame fails the run.

    \b
    Run everything, in twelve minutes:
      python -m tests.benchmarks --write
    Compare two servers in one scenario:
      python -m tests.benchmarks --scenario fanout --only ours,nchan --rounds 5
    Write the tables again from stored results:
      python -m tests.benchmarks --from docs/performance.json --write
    """
    console = Console()
    if is_listed:
        _list(console)
        return
    try:
        chosen = _chosen(scenarios, is_quick)
        pace = _pace(is_quick, rounds, seconds)
        results = Results.read(from_path) if from_path else measure(chosen, pace, _names(only), console)
        _print(results, console)
        if json_path:
            results.write(json_path)
        if is_written:
            _write(results)
    except BenchmarkError as exc:
        raise click.ClickException(str(exc)) from exc
    if results.failures:
        sys.exit(1)


def measure(scenarios: Sequence[Scenario], pace: Pace, only: Sequence[str], console: Console) -> Results:
    """Measure all subjects of the scenarios, and show a progress bar."""
    results = Results(machine.describe())
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        steps = list(_steps(scenarios, pace, only))
        task = progress.add_task("", total=len(steps))
        for scenario, subject in steps:
            progress.update(task, description=f"{scenario.key}: {subject.title}")
            started = time.monotonic()
            try:
                results.add(scenario.key, subject.key, subject.measure(pace))
            except BenchmarkError as exc:
                results.fail(scenario.key, subject.key, str(exc))
                progress.console.print(f"[red]{scenario.key}: {subject.title}:[/] {str(exc)[-600:]}", highlight=False)
            if not console.is_terminal:
                seconds_taken = time.monotonic() - started
                print(f"{scenario.key}: {subject.title}: {seconds_taken:.1f} s", file=sys.stderr, flush=True)
            progress.advance(task)
    return results


def _steps(scenarios: Sequence[Scenario], pace: Pace, only: Sequence[str]) -> Iterator[tuple[Scenario, Subject]]:
    """Yield the subjects round by round, so that a disturbance of the machine affects all of them."""
    for scenario in scenarios:
        for _ in range(1 if scenario.is_once else pace.rounds):
            for subject in scenario.chosen(pace, only):
                yield scenario, subject


def _chosen(names: str, is_quick: bool) -> list[Scenario]:
    chosen = _names(names) or [key for key, scenario in SCENARIOS.items() if scenario.is_quick or not is_quick]
    for name in chosen:
        if name not in SCENARIOS:
            raise click.BadParameter(f"unknown {name!r}; choose from {', '.join(SCENARIOS)}", param_hint="--scenario")
    return [SCENARIOS[name] for name in chosen]


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _pace(is_quick: bool, rounds: int | None, seconds: float | None) -> Pace:
    pace = QUICK if is_quick else FULL
    return Pace(seconds or pace.seconds, rounds or pace.rounds, pace.connections, pace.many, is_quick)


def _print(results: Results, console: Console) -> None:
    facts = results.machine
    console.print(f"{facts['processor']}, {facts['cores']} cores, Python {facts['python']}, commit {facts['commit']}")
    for key, scenario in SCENARIOS.items():
        if key in results.samples:
            console.print(_scenario_table(results, scenario))
    bars = Table("figure", "bar", "here", "", title="Goals")
    for row in terminal_report(results):
        bars.add_row(*row)
    if bars.row_count:
        console.print(bars)


def _scenario_table(results: Results, scenario: Scenario) -> Table:
    table = Table("", title=scenario.title)
    for metric in scenario.metrics.values():
        table.add_column(metric.title, justify="right")
    for subject in scenario.subjects:
        if subject.key in results.samples[scenario.key]:
            cells = []
            for name, metric in scenario.metrics.items():
                value = results.steady(scenario.key, subject.key, name)
                cells.append("" if value is None else f"{value:,.{metric.digits}f}{metric.unit.replace('/s', '')}")
            table.add_row(subject.title, *cells)
    return table


def _write(results: Results) -> None:
    results.write(DOCS / "performance.json")
    write_plots(results, DOCS)
    replace_between_markers(DOCS / "performance.md", full_report(results))


def _list(console: Console) -> None:
    for scenario in SCENARIOS.values():
        console.print(f"[bold]{scenario.key}[/]: {scenario.title}", highlight=False)
        for subject in scenario.subjects:
            console.print(f"    {subject.key}: {subject.title}", highlight=False)


if __name__ == "__main__":
    main()
