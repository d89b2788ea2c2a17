"""Thousands of idle pages on one process, with a constant rate of events to some of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from jobpush.store import Notification
from tests.effort import thorough
from tests.waiting import wait_until

from .conftest import IS_FULL
from .processes import descriptors, memory
from .stand import Stand

_ROOT = Path(__file__).parents[2]
#: Number of pages, each of a different user.
PAGES = 10_000 if IS_FULL else 2_000
#: Total events per second, and the duration in seconds.
EVENTS_A_SECOND = 1_000
SECONDS = 20 if IS_FULL else 5
#: Memory of the process per idle page that is signed in and subscribed to its user, in bytes, as stated in the README.
BYTES_A_PAGE = 8_000
#: Events per round trip of the publisher.
_BATCH = 100


class Load:
    """Processes that hold the pages."""

    def __init__(self, port: int, pages: int, processes: int) -> None:
        environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
        share = pages // processes
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.faults.idle_load", str(port), str(n * share), str((n + 1) * share)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for n in range(processes)
        ]

    def report(self) -> dict[str, Any]:
        """Return the sums of the reports of all processes."""
        reports = []
        for process in self._processes:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            reports.append(json.loads(process.stdout.readline()))
        return {name: sum((report[name] for report in reports), type(reports[0][name])()) for name in reports[0]}

    def close(self) -> None:
        for process in self._processes:
            process.communicate()


@thorough
def test_idle_pages_cost_little_and_all_events_arrive(tmp_path: Path) -> None:
    with Stand(tmp_path) as stand:
        gateway = stand.gateways[0]
        gateway.wait_until_ready()
        pid, empty = gateway.pid, memory(gateway.pid)
        begun = time.monotonic()
        load = Load(gateway.port, PAGES, processes=2)
        try:
            wait_until(lambda: load.report()["open"] == PAGES, f"{PAGES} pages are open", patience=180)
            connected = time.monotonic() - begun
            idle = (memory(pid) - empty) / PAGES

            sent, begun = 0, time.monotonic()
            while time.monotonic() - begun < SECONDS:
                batch = [_notification(sent + number) for number in range(_BATCH)]
                stand.store.trigger_batch(batch)
                sent += _BATCH
                time.sleep(max(0.0, begun + sent / EVENTS_A_SECOND - time.monotonic()))
            published = time.monotonic() - begun
            wait_until(lambda: load.report()["numbers"] == sent, f"{sent} events arrive: {load.report()}")
            busy, report, figures = (memory(pid) - empty) / PAGES, load.report(), gateway.figures()
            open_files = descriptors(pid)
        finally:
            load.close()

    print(
        f"\nFIG idle: {PAGES} pages connected in {connected:.1f} s, {idle / 1000:.1f} KB each, {busy / 1000:.1f} KB"
        f" with {sent / published:.0f} events/s, {open_files} open files"
    )
    assert idle < BYTES_A_PAGE and busy < BYTES_A_PAGE, f"{idle:.0f} and {busy:.0f} bytes a page"
    assert report == {"open": PAGES, "numbers": sent, "ends": 0, "faults": []}
    assert figures["jobpush_connections"] == PAGES
    assert figures["jobpush_events_sent_total"] == sent


def _notification(number: int) -> Notification:
    return Notification([f"#server-to-user-u{number % PAGES}"], "number", {"n": number + 1})
