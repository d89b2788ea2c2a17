"""
A complete deployment under load, with a random fault every few seconds. ``make soak`` runs it for half an hour.

Only one fault happens at a time: nothing is guaranteed for simultaneous faults. One gateway and one worker are not
touched, so that leaks show.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from jobpush.errors import TaskNotFound
from jobpush.processes.child import ChildProcess
from tests.effort import IS_FULL, thorough
from tests.waiting import PATIENCE, wait_until

from .crowd import Crowd
from .processes import descriptors, family, memory, paused
from .stand import Stand

#: Duration in minutes.
MINUTES = float(os.environ.get("SOAK_MINUTES", "3" if IS_FULL else "1"))
#: Seconds after which a silent worker or gateway counts as dead.
LOST_AFTER = 4.0
#: Warm-up time, in seconds: processes grow while they start.
WARM_AFTER = 20.0
#: Seconds between the recovery from one fault and the next.
QUIET = 5.0
#: Permitted growth of a process, in bytes and descriptors.
GROWTH = 10_000_000
DESCRIPTORS = 20


@dataclass
class Soak:
    """The stand, and the faults that have happened to it."""

    stand: Stand
    crowd: Crowd
    dice: random.Random
    worker: ChildProcess
    happened: Counter[str] = field(default_factory=Counter)
    #: Memory and descriptors of each untouched process, after the warm-up and now.
    sizes: dict[str, tuple[int, int, int, int]] = field(default_factory=dict)

    def worker_killed(self) -> None:
        os.kill(self.worker.pid, signal.SIGKILL)
        self.worker.kill()
        self.worker = self.stand.start_worker("-c", "4")
        time.sleep(2 * LOST_AFTER)

    def gateway_killed(self) -> None:
        self.stand.gateways[1].kill()
        self.stand.gateways[1].start()

    def gateway_rolled(self) -> None:
        self.stand.gateways[1].stop()
        self.stand.gateways[1].start()

    def worker_paused(self) -> None:
        with paused(family(self.worker.pid)):
            time.sleep(2.0)

    def redis_hanging(self) -> None:
        with paused([self.stand.events.pid]):
            time.sleep(self.dice.choice([1.0, 10.0]))

    def redis_killed_and_empty(self) -> None:
        self.stand.events.kill()
        time.sleep(1.0)
        self.stand.events.restart(keep_data=False)
        time.sleep(LOST_AFTER)

    def redis_slow(self) -> None:
        self.stand.proxy.delay = 0.2
        time.sleep(3.0)
        self.stand.proxy.delay = 0.0

    def network_cut(self) -> None:
        self.stand.proxy.cut()

    def network_silent(self) -> None:
        self.stand.proxy.go_silent()
        time.sleep(9.0)
        self.stand.proxy.heal()

    def pages_away(self) -> None:
        self.crowd.hang_up(self.dice.sample(self.crowd.visitors, 20), for_good=False)

    @property
    def faults(self) -> list[Callable[[], None]]:
        return [
            self.worker_killed,
            self.gateway_killed,
            self.gateway_rolled,
            self.worker_paused,
            self.redis_hanging,
            self.redis_killed_and_empty,
            self.redis_slow,
            self.network_cut,
            self.network_silent,
            self.pages_away,
        ]

    def measure(self) -> None:
        """Record the size of the untouched processes."""
        for name, pid in self.stand.pids().items():
            if name == "gateway 0" or name.startswith("worker 0."):
                # Pages of the other gateway reconnect here; their descriptors are not a leak.
                pages = self.stand.gateways[0].figures()["jobpush_connections"] if name == "gateway 0" else 0
                size = memory(pid), descriptors(pid) - int(pages)
                self.sizes[name] = (*self.sizes.get(name, (*size, 0, 0))[:2], *size)

    def wait_until_recovered(self) -> None:
        """Wait until the gateways are ready and all pages connected."""
        for gateway in self.stand.gateways:
            gateway.wait_until_ready()
        self.crowd.wait_until_all_are_open()


@contextmanager
def soaking(folder: Path) -> Iterator[Soak]:
    """Run two gateways, two workers and a crowd."""
    settings = {"lost_after": LOST_AFTER, "lease": LOST_AFTER, "grace": 3.0}
    with Stand(folder, gateways=2, users=30, **settings) as stand:
        stand.start_worker("-c", "4")
        soak = Soak(stand, stand.open_crowd(), random.Random(int(MINUTES)), stand.start_worker("-c", "4"))
        yield soak


@thorough
def test_soak(tmp_path: Path) -> None:
    until = time.monotonic() + MINUTES * 60
    with soaking(tmp_path) as soak, Progress(console=Console(stderr=True)) as bar:
        stand, crowd = soak.stand, soak.crowd
        ticker = stand.start_ticker(0.2)
        feeds = [stand.start_feed(0.3, name="works"), stand.start_feed(1.0, name="works_acking_late", steps=50)]
        line = bar.add_task("soaking", total=MINUTES * 60)
        warm_at = time.monotonic() + WARM_AFTER
        left: list[Callable[[], None]] = []
        while time.monotonic() < until - 2 * QUIET:
            if time.monotonic() > warm_at:
                soak.measure()
            left = left or soak.dice.sample(soak.faults, len(soak.faults))  # all faults, in a new order each time
            fault = left.pop()
            bar.update(line, description=fault.__name__, completed=MINUTES * 60 - (until - time.monotonic()))
            fault()
            soak.happened[fault.__name__] += 1
            soak.wait_until_recovered()
            time.sleep(QUIET)
        ticker.stop()
        for feed in feeds:
            feed.stop()
        wait_until(lambda: is_broker_empty(stand), "the broker is empty", patience=2 * PATIENCE)
        wait_until(lambda: len(missing(soak)) <= soak.happened["worker_killed"], "all ends are received")
        time.sleep(QUIET)
        soak.measure()
        never_run = [task_id for _, task_id, _ in crowd.missing_ends(stand.tasks) if is_waiting(stand, task_id)]
        lost = [one for one in crowd.missing_ends(stand.tasks) if one[1] not in never_run]
        table = described(soak, len(set(never_run)), len(lost))
        numbers = crowd.missing_numbers(ticker.confirmed)
    Console(stderr=True).print(table)

    assert not lost, lost[:10]
    assert not numbers, numbers[:10]
    assert crowd.faults() == []
    # Redis removes a message from the queue before kombu records it: a worker that is killed in between loses it.
    assert len(set(never_run)) <= soak.happened["worker_killed"]
    for name, (memory_before, files_before, memory_after, files_after) in soak.sizes.items():
        assert memory_after - memory_before < GROWTH, f"{name}: {memory_before} {memory_after}"
        assert files_after - files_before < DESCRIPTORS, f"{name}: {files_before} {files_after}"


def missing(soak: Soak) -> set[str]:
    """Return the tasks whose end some visitor has not received."""
    return {task_id for _, task_id, _ in soak.crowd.missing_ends(soak.stand.tasks)}


def is_broker_empty(stand: Stand) -> bool:
    """Return whether no message is queued or unacknowledged."""
    return not stand.broker_client.llen("celery") and not stand.broker_client.hlen("unacked")


def is_waiting(stand: Stand, task_id: str) -> bool:
    """Return whether no worker has received a task, as far as is known."""
    try:
        return stand.store.task(task_id).state.value == "PENDING"
    except TaskNotFound:
        return True  # Redis lost its state before a worker received it


def described(soak: Soak, never_run: int, lost: int) -> Table:
    """Return a table of all counts."""
    stand, crowd = soak.stand, soak.crowd
    states = Counter(state for page in crowd.visitors[: len(stand.users)] for _, state in page.tasks.values())
    table = Table("what", "figure", title=f"{MINUTES:g} minutes")
    rows: list[tuple[str, object]] = [
        ("tasks published", sum(map(len, stand.tasks.values()))),
        *((f"tasks that ended in {state}", count) for state, count in sorted(states.items())),
        ("messages lost by the broker", never_run),
        ("terminal events lost", lost),
        ("messages received by pages", crowd.received()),
        ("connections made by pages", sum(len(page.opened) for page in crowd.visitors)),
        ("resyncs", crowd.resyncs()),
        *sorted(soak.happened.items()),
    ]
    for name, (memory_before, files_before, memory_after, files_after) in soak.sizes.items():
        rows.append((f"{name}: memory", f"{memory_before / 1e6:.1f} MB, then {memory_after / 1e6:.1f} MB"))
        rows.append((f"{name}: descriptors", f"{files_before}, then {files_after}"))
    for what, figure in rows:
        table.add_row(what, str(figure))
    return table
