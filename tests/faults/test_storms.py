"""Load peaks: mass reconnects, one channel with 18,000 listeners, one user or worker with many tasks."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from jobpush.events import TaskEvent, TaskState
from jobpush.protocol.messages import PING, PONG
from jobpush.store import TaskWrite
from tests.benchmarks.native import compiled
from tests.benchmarks.processes import Load
from tests.gateway.client import Client, data_of
from tests.gateway.site import KEY
from tests.waiting import wait_until

from .crowd import NEWS
from .processes import family
from .stand import Stand

#: Timeout on a busy machine, in seconds.
PATIENCE = 240.0
_ALL_CORES = ",".join(map(str, sorted(os.sched_getaffinity(0))))
_SUBSCRIBE = '{"event":"pusher:subscribe","data":{"channel":"news"}}'

pytestmark = pytest.mark.timeout(900)


@contextmanager
def standing(folder: Path, **settings: Any) -> Iterator[Stand]:
    """Run two gateways."""
    with Stand(folder, gateways=2, grace=30.0, lease=15.0, **settings) as stand:
        for gateway in stand.gateways:
            gateway.wait_until_ready()
        yield stand


def open_pages(stand: Stand, number: int, *, at_once: int = 200) -> list[Load]:
    """
    Open pages of as many users, half of them at each gateway. Each checks that no number is missing from its first on.

    The pages are in C programs, which take a small part of a core: the gateways are the limit.

    Args:
        stand: The gateways.
        number: Number of pages.
        at_once: Pages of one gateway that are being opened at the same time.
    """
    loads = []
    for index, gateway in enumerate(stand.gateways):
        half = number // 2
        command = [compiled("load"), "127.0.0.1", str(gateway.port)]
        command += ["--path", f"/app/{KEY}?protocol=7&client=jobpush", "--groups", "1"]
        command += ["--connections", str(half), "--first", str(index * half), "--inflight", str(at_once)]
        command += ["--sources", "100", "--may-be-late", "--header", "Cookie: user=page-{i}"]
        command += ["--answer", PING.decode(), PONG.decode()]
        command += ["--step", '"pusher:connection_established"', _SUBSCRIBE]
        command += ["--step", '"pusher_internal:subscription_succeeded","channel":"news"', ""]
        loads.append(Load(command, cores=_ALL_CORES, log=stand.path()))
        stand.on_exit(loads[-1].stop)
    return loads


def with_mark(number: int) -> object:
    """Return the data of a number, with the mark of ``native/load.c``: all pages receive the same stream."""
    return {"n": number, "mark": f"~0.{number}.{time.monotonic_ns()}~"}


@contextmanager
def measured_cpu(stand: Stand, loads: list[Load], **others: int) -> Iterator[dict[str, float]]:
    """Yield the CPU seconds of each kind of process; complete at the end. ``others`` are process ids."""
    pids = {"gateways": [gateway.pid for gateway in stand.gateways], "Redis": [stand.events.pid]}
    pids |= {name: family(pid) for name, pid in others.items()}
    before = {name: cpu_seconds(some) for name, some in pids.items()}
    before_loads, used = sum(load.cpu_seconds() for load in loads), dict.fromkeys(pids, 0.0)
    yield used
    used |= {name: cpu_seconds(some) - before[name] for name, some in pids.items()}
    used["pages"] = sum(load.cpu_seconds() for load in loads) - before_loads


def lease_ids(stand: Stand) -> set[bytes]:
    """Return the ids of the gateways; a gateway that loses its lease gets a new id."""
    return set(stand.store.run([("ZRANGE", stand.store.keys.gateways, 0, -1)])[0])


def test_ten_thousand_users_reconnect_at_once(tmp_path: Path) -> None:
    with standing(tmp_path) as stand:
        old_pages = open_pages(stand, 9_800)
        crowd = stand.open_crowd(users=[f"u{number}" for number in range(200)], channels=(NEWS,))
        for pages in old_pages:
            pages.wait_until_ready()
        ids = lease_ids(stand)
        ticker = stand.start_ticker(0.5, data_of=with_mark)
        crowd.wait_until(lambda: all(visitor.numbers for visitor in crowd.visitors), patience=PATIENCE)

        begun, before = time.monotonic(), len(ticker.confirmed)
        for pages in old_pages:
            pages.stop()
        crowd.hang_up(crowd.visitors, for_good=False)
        new_pages = open_pages(stand, 9_800)
        with measured_cpu(stand, new_pages) as used:
            opened = [pages.wait_until_ready() for pages in new_pages]
            seconds = time.monotonic() - begun
        live_events = len(ticker.confirmed) - before
        wait_until(lambda: len(crowd.connected) == len(crowd.visitors), patience=PATIENCE)
        ticker.stop()
        crowd.wait_until(lambda: not crowd.missing_numbers(ticker.confirmed), patience=PATIENCE)
        reports = [pages.request("report") for pages in new_pages]

        by_second = [sum(counts) for counts in zip_longest(*(one["by_second"] for one in opened), fillvalue=0)]
        print(f"\nFIG storm: reconnected after {seconds:.1f} s, by second {by_second}")
        print(f"FIG storm: by gateway {[one['by_second'] for one in opened]}")
        print(f"FIG storm: seconds until a page is open {[one['opening_us'] for one in opened]}")
        print(f"FIG storm: {live_events} live events meanwhile; {[one['latency_us'] for one in reports]}")
        print(f"FIG storm: share of a core { {name: round(one / seconds, 2) for name, one in used.items()} }")
        assert live_events, "no live event was published"
        assert lease_ids(stand) == ids, "a lease was lost"
        assert crowd.faults() == []
        assert crowd.resyncs() == 0
        assert {len(visitor.opened) for visitor in crowd.visitors} == {2}, "a page needed a second attempt"


def test_one_channel_with_eighteen_thousand_listeners(tmp_path: Path) -> None:
    with standing(tmp_path) as stand:
        pages = open_pages(stand, 18_000)
        for one in pages:
            one.wait_until_ready()
        counts = [gateway.figures()["jobpush_connections"] for gateway in stand.gateways]
        delays: list[float] = []
        with measured_cpu(stand, pages) as used:
            for number in range(1, 11):
                for one in pages:
                    one.send_command("reset")
                stand.store.trigger([NEWS], "number", with_mark(number))
                delays.append(max(one.request(f"until {number}")["seconds"] for one in pages))

        print(f"\nFIG listeners: {counts} connections; the last page receives an event after {sorted(delays)[5]:.2f} s")
        print(f"FIG listeners: CPU seconds of ten events { {name: round(one, 2) for name, one in used.items()} }")
        assert sum(counts) == 18_000
        assert [one.request("report")["lowest"] for one in pages] == [10, 10]


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
        crowd = stand.open_crowd(users=stand.users[:5], channels=(NEWS,))
        stop = stand.path()
        running = {stand.delay(user, "updates_twice_a_second", stop) for user in stand.users for _ in range(10)}
        wait_until(lambda: number_of_events(stand, TaskState.PROGRESS) == len(running), patience=PATIENCE)
        begun, before, updates = time.monotonic(), publishes(stand), number_of_updates(stand)
        with measured_cpu(stand, [], worker=worker.pid) as used:
            wait_until(lambda: publishes(stand) - before >= 20_000, patience=PATIENCE)
            seconds, published = time.monotonic() - begun, publishes(stand) - before
            updates = number_of_updates(stand) - updates
        stop.touch()
        crowd.wait_for_ends({user: stand.tasks[user] for user in stand.users[:5]}, PATIENCE)
        wait_until(lambda: number_of_events(stand, TaskState.SUCCESS) == len(running), patience=PATIENCE)

        print(
            f"\nFIG worker: {len(running)} tasks, {updates / seconds:.0f} updates/s, {published / seconds:.0f} events/s"
        )
        print(f"FIG worker: share of a core { {name: round(one / seconds, 2) for name, one in used.items()} }")
        assert crowd.faults() == crowd.ends() == []
        assert not crowd.states("LOST")


def number_of_events(stand: Stand, state: TaskState) -> int:
    """Return the number of tasks that are in a state."""
    return sum(task.state is state for user in stand.users for task in stand.store.tasks(user))


def number_of_updates(stand: Stand) -> float:
    """Return the number of updates that the stored events of all tasks are about: each adds one to its progress."""
    return sum(task.current or 0 for user in stand.users for task in stand.store.tasks(user))


def publishes(stand: Stand) -> int:
    """Return the number of calls of PUBLISH by all clients and scripts of Redis."""
    (stats,) = stand.store.run([("INFO", "commandstats")])
    return int(stats["cmdstat_publish"]["calls"])


def cpu_seconds(pids: list[int]) -> float:
    """Return the total CPU time of processes, in seconds."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(one[11]) + int(one[12]) for one in fields) / 100
