"""Tables and plots show the results, missed bars included."""

from __future__ import annotations

import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from .__main__ import main
from .errors import BenchmarkError
from .plots import write_plots
from .processes import ROOT
from .report import full_report, replace_between_markers, short_report
from .results import Results

MACHINE = dict.fromkeys(
    ("processor", "cores", "system", "python", "node", "nginx", "redis", "commit", "date", "load"), "some"
)


@pytest.fixture
def results() -> Results:
    """Two rounds of one scenario, and a failure."""
    results = Results(MACHINE)
    for ours, nchan in ((400_000.0, 200_000.0), (500_000.0, 200_000.0)):
        results.add("fanout", "ours", {"deliveries": ours, "deliveries_one": 250_000.0})
        results.add("fanout", "nchan", {"deliveries": nchan, "deliveries_one": 200_000.0})
    results.add("update", "ours", {"call": 100.0})
    results.add("update", "tqdm", {"call": 300.0})
    results.fail("fanout", "ws", "load: connection 3: got seq 5 after 3: 1 lost")
    return results


def rows_of(text: str) -> dict[str, str]:
    """Return the rows of all tables by their first cell."""
    return {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}


def test_table_is_made_from_stored_results(results: Results, tmp_path: Path) -> None:
    results.write(tmp_path / "results.json")

    text = full_report(Results.read(tmp_path / "results.json"))

    assert text == full_report(results)
    assert "| jobpush | 450,000 ± 11% | 250,000 ± 0% |" in text
    assert "| nginx nchan (C) | 200,000 ± 0% | 200,000 ± 0% |" in text
    assert "got seq 5 after 3: 1 lost" in text


def test_stalled_server_is_shown_as_stalled(results: Results, tmp_path: Path) -> None:
    results.add("slow", "flask-sock-shared", {"ratio_p50": float("inf"), "ratio_p99": float("inf")})
    results.write(tmp_path / "results.json")

    text = full_report(Results.read(tmp_path / "results.json"))

    assert "| Flask-Sock, one shared listener | stands still | stands still |" in text


def test_missed_bar_is_shown_as_missed(results: Results) -> None:
    lines = rows_of(full_report(results))

    fanout = lines["fan-out with a backlog, deliveries/s"]
    assert "450,000 against 200,000 of nchan: 2.2 ×" in fanout and "**missed**" in fanout
    assert "met" in lines["fan-out one event at a time, deliveries/s"]
    assert "moonshot" in lines["progress.update that sends nothing"]


def test_unmeasured_values_have_no_row(results: Results) -> None:
    text = full_report(results)

    assert "idle connection" not in text and "Redis: CPU" not in text


def test_short_table_lists_jobpush_first(results: Results) -> None:
    results.add("connecting", "ours", {"connects": 1_500.0, "memory": 2.6})
    results.add("connecting", "nchan", {"connects": 20_000.0, "memory": 11.4})

    rows = [line for line in short_report(results).splitlines() if line.startswith("|")]

    assert rows[2] == "| **jobpush** | **450,000** | **2.6** | **1,500** |"
    assert rows[3] == "| nginx nchan (C) | 200,000 | 11.4 | 20,000 |"


def test_report_shows_missed_bars_too(results: Results) -> None:
    assert "3 × nchan" in full_report(results) and "**missed**" in full_report(results)


def test_latency_is_compared_with_servers_and_not_with_the_machine(results: Results) -> None:
    for subject, latency in (("ours", 0.07), ("ws", 0.08), ("nchan", 0.09), ("relay", 0.06)):
        results.add("per-user", subject, {"at_2000_p50": latency, "at_2000_p99": 2 * latency})

    rows = rows_of(full_report(results))

    row = rows["the same at 2,000 events a second, where the server keeps up"]
    assert "p50 0.070 against 0.080 of node ws + ioredis; p99 0.140 against 0.160" in row and "| met |" in row
    assert "1.2 ×" in rows["p50 at 2,000 events a second, beside a loop in C from Redis to the socket"]


def test_server_that_reaches_a_rate_only_sometimes_is_not_compared(results: Results) -> None:
    for subject in ("ours", "ws"):
        results.add("per-user", subject, {"at_50000_p50": 0.1, "at_50000_p99": 0.2})
    for sample in ({"at_50000_p50": 0.01, "at_50000_p99": 0.02}, {"deliveries": 50_000.0}):
        results.add("per-user", "nchan", sample)

    assert "| met |" in rows_of(full_report(results))["the same at 50,000 events a second, where the server keeps up"]

    results.add("per-user", "ours", {"deliveries": 50_000.0})
    row = rows_of(full_report(results))["the same at 50,000 events a second, where the server keeps up"]
    assert "p50 – against" in row and "**missed**" in row


def test_run_of_jobpush_alone_has_its_own_figures(results: Results) -> None:
    results.add("per-user", "ours", {"half_p50": 0.2, "half_p99": 0.4})

    rows = rows_of(full_report(results))

    assert "0.200 / 0.400 ms | moonshot |" in rows["the same in itself"]
    assert "publisher to socket at half of what each can, p50 / p99" not in rows


def test_new_tables_replace_the_old_ones(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    shutil.copy(ROOT / "docs" / "performance.md", page)
    before = page.read_text()

    replace_between_markers(page, "| one |")
    replace_between_markers(page, "| another |")

    assert "| another |" in page.read_text() and "| one |" not in page.read_text()
    assert page.read_text().partition("<!-- made")[0] == before.partition("<!-- made")[0]
    with pytest.raises(BenchmarkError, match="has no lines"):
        page.write_text("no markers")
        replace_between_markers(page, "| one |")


def test_plots_are_well_formed_and_have_a_bar_for_each_server(results: Results, tmp_path: Path) -> None:
    write_plots(results, tmp_path)

    tree = ElementTree.parse(tmp_path / "performance-fanout-deliveries.svg")  # noqa: S314 - our own
    bars = tree.findall(".//{http://www.w3.org/2000/svg}rect")
    assert [bar.get("class") for bar in bars] == ["ours", "other"]
    assert float(bars[0].get("width", 0)) == pytest.approx(2.25 * float(bars[1].get("width", 0)))
    assert "prefers-color-scheme: dark" in (tmp_path / "performance-fanout-deliveries.svg").read_text()


def test_command_shows_stored_results_and_fails_if_a_run_failed(results: Results, tmp_path: Path) -> None:
    results.write(tmp_path / "results.json")

    shown = CliRunner().invoke(main, ["--from", str(tmp_path / "results.json")])

    assert shown.exit_code == 1
    assert "One channel, 1,000 sockets" in shown.output and "missed" in shown.output


def test_command_names_the_available_scenarios() -> None:
    refused = CliRunner().invoke(main, ["--scenario", "fnaout"])

    assert refused.exit_code == 2 and "fanout" in refused.output
    assert "per-user" in CliRunner().invoke(main, ["--list"]).output
