"""Load peaks: mass reconnects, one channel with 18,000 listeners, one user or worker with many tasks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobpush.events import TaskEvent, TaskState
from jobpush.store import TaskWrite
from tests.gateway.client import Client, data_of
from tests.waiting import wait_until

from .crowd import NEWS, Crowd
from .processes import family
from .stand import Stand

#: Timeout on a busy machine, in seconds.
PATIENCE = 240.0

pytestmark = pytest.mark.timeout(900)


@contextmanager
def standing(folder: Path, **settings: Any) -> Iterator[Stand]:
    """Run two gateways."""
    with Stand(folder, gateways=2, grace=30.0, lease=15.0, **settings) as stand:
        for gateway in stand.gateways:
            gateway.wait_until_ready()
        yield stand


def opened_crowd(stand: Stand, users: list[str], **options: Any) -> Crowd:
    """Open a page for each user, from many source addresses, because connections per address are limited."""
    ports = [gateway.port for gateway in stand.gateways]
    sources = [f"127.0.1.{number}" for number in range(1, 101)]
    crowd = Crowd(ports, users, channels=(NEWS,), sources=sources, at_once=200, **options)
    stand.on_exit(crowd.close)
    wait_until(lambda: len(crowd.connected) == len(users), f"{len(users)} pages", patience=PATIENCE)
    return crowd


def lease_ids(stand: Stand) -> set[bytes]:
    """Return the ids of the gateways; a gateway that loses its lease gets a new id."""
    return set(stand.store.run([("ZRANGE", stand.store.keys.gateways, 0, -1)])[0])


def test_ten_thousand_users_reconnect_at_once(tmp_path: Path) -> None:
    with standing(tmp_path) as stand:
        crowd = opened_crowd(stand, [f"u{number}" for number in range(10_000)], spreads=False)
        ids = lease_ids(stand)
        ticker = stand.start_ticker(2.0)  # slow, because each event goes to all pages, which share one process
        crowd.wait_until(lambda: all(visitor.numbers for visitor in crowd.visitors), patience=PATIENCE)
        begun = time.monotonic()
        crowd.hang_up(crowd.visitors, for_good=False)
        wait_until(lambda: not crowd.connected, "all pages are disconnected")

        before = len(ticker.confirmed)
        wait_until(lambda: len(crowd.connected) == len(crowd.visitors), "all pages are connected", patience=PATIENCE)
        seconds = time.monotonic() - begun
        live_events = len(ticker.confirmed) - before
        ticker.stop()
        crowd.wait_until(lambda: not crowd.missing_numbers(ticker.confirmed), patience=PATIENCE)

        rates = Counter(int(visitor.opened[-1] - begun) for visitor in crowd.visitors)
        by_second = [rates[second] for second in range(int(seconds) + 1)]
        print(f"\nFIG storm: reconnected after {seconds:.1f} s, by second {by_second}")
        print(f"FIG storm: {live_events} live events meanwhile, {crowd.resyncs()} resyncs")
        assert live_events, "no live event was published"
        assert lease_ids(stand) == ids, "a lease was lost"
        assert crowd.faults() == []
        assert crowd.resyncs() == 0
        assert {len(visitor.opened) for visitor in crowd.visitors} == {2}, "a page needed a second attempt"


def test_one_channel_with_eighteen_thousand_listeners(tmp_path: Path) -> None:
    with standing(tmp_path) as stand:
        crowd = opened_crowd(stand, [f"u{number}" for number in range(18_000)])
        counts = [gateway.figures()["jobpush_connections"] for gateway in stand.gateways]
        delays: list[float] = []
        for number in range(1, 11):
            begun = time.monotonic()
            stand.store.trigger([NEWS], "number", {"n": number})
            crowd.wait_until(lambda number=number: all(one.numbers[-1:] == [number] for one in crowd.visitors))  # type: ignore[misc]
            delays.append(time.monotonic() - begun)

        print(f"\nFIG listeners: {counts} connections; the last page receives an event after {sorted(delays)[5]:.2f} s")
        assert sum(counts) == 18_000
        assert {tuple(visitor.numbers) for visitor in crowd.visitors} == {tuple(range(1, 11))}
        assert crowd.faults() == crowd.ends() == []


def test_one_user_with_ten_thousand_tasks(tmp_path: Path) -> None:
    with standing(tmp_path) as stand:
        for first in range(0, 10_000, 500):
            stand.store.publish([write(number) for number in range(first, first + 500)])
        begun = time.monotonic()
        client = Client(stand.gateways[0].port, user="many", client="jobpush")
        messages = client.receive_until(lambda one: one["event"] == "pusher_internal:subscription_succeeded")
        seconds = time.monotonic() - begun
        read: list[str] = []
        pages = 0
        while page := stand.jobpush.tasks("many", start=len(read)):
            read += [task.task_id for task in page]
            pages += 1

        assert len(read) == len(set(read)) == 10_000
        assert read[:100] == [f"t{number}" for number in range(9_900, -1, -100)], "running tasks are not first"
        stand.store.publish([write(10_000)])
        messages += client.receive_until(lambda one: "t10000" in str(one["data"]))
        client.hang_up()
        shown = {data_of(one)["task_id"] for one in messages if one["event"] == "jobpush:task"} - {"t10000"}
        print(f"\nFIG tasks: joined after {seconds:.2f} s, {len(shown)} tasks shown at first, {pages} pages in total")
        assert {f"t{number}" for number in range(0, 10_000, 100)} <= shown, "a running task is not shown"


def write(number: int) -> TaskWrite:
    """Return the write of a task; every hundredth task is running."""
    state = TaskState.STARTED if number % 100 == 0 else TaskState.SUCCESS
    return TaskWrite("many", TaskEvent(f"t{number}", state, created_at=float(number + 1)), pinned=True)


def test_one_worker_with_five_hundred_tasks_and_a_thousand_updates_a_second(tmp_path: Path) -> None:
    with standing(tmp_path, users=50, min_interval=0.1) as stand:
        worker = stand.start_worker("-P", "threads", "-c", "500")
        crowd = stand.open_crowd(channels=(NEWS,))
        stop = stand.path()
        running = {stand.delay(user, "updates_twice_a_second", stop) for user in stand.users for _ in range(10)}
        crowd.wait_until(lambda: len(crowd.states("PROGRESS")) == len(running), patience=PATIENCE)
        begun, before, used = time.monotonic(), crowd.received(), cpu_seconds(family(worker.pid))
        crowd.wait_until(lambda: crowd.received() - before >= 2 * 1_000 * 20, patience=PATIENCE)
        seconds, used = time.monotonic() - begun, cpu_seconds(family(worker.pid)) - used
        stop.touch()
        crowd.wait_for_ends(stand.tasks, PATIENCE)

        rate = 1_000 * 20 / seconds
        print(f"\nFIG worker: {len(running)} tasks, {rate:.0f} events/s, {used / seconds:.0%} of a core in the worker")
        assert crowd.faults() == crowd.ends() == []
        assert not crowd.states("LOST")
        assert {state for visitor in crowd.visitors for _, state in visitor.tasks.values()} == {"SUCCESS"}


def cpu_seconds(pids: list[int]) -> float:
    """Return the total CPU time of processes, in seconds."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(one[11]) + int(one[12]) for one in fields) / 100
