"""
Redis dies, hangs, or is slow, full, empty or replaced: tasks continue, and in the end every page is up to date.

The faults run concurrently, because each of them mostly waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import redis

from tests.effort import thorough
from tests.waiting import wait_until

from .conftest import IS_FULL
from .crowd import ROOM, Crowd
from .processes import descriptors, memory, paused, threads
from .stand import LOST_AFTER, Stand

#: Seconds for which Redis is unreachable: longer than the 8 s after which a gateway drops a silent connection.
PAUSE = 30.0 if IS_FULL else 10.0
#: Duration of faults that are detected at once, in seconds.
SHORT = 30.0 if IS_FULL else 4.0
#: Permitted growth of a process after a fault, in bytes: far less than it had to publish meanwhile.
GROWTH = 12_000_000
#: Number of concurrent faults.
AT_ONCE = 4


@dataclass(frozen=True)
class Fault:
    """
    A fault of Redis.

    Args:
        play: Breaks Redis, calls its second argument while it is broken, and repairs it.
        seconds: Duration of the fault.
        is_noticed: Whether a gateway must report that it is not ready.
        receives_progress: Whether progress must arrive nevertheless.
        loses_history: Whether pages may get a resync.
        times: How often the fault happens, and may appear in each log.
        lost_after: Seconds after which a silent worker counts as dead; a live one must reach Redis several times within
            them.
        publish_timeout: Seconds that a task may wait for Redis. A busy machine may stall for a second without any
            fault, which would be logged too; but the lease of a live worker has at least the same timeout.
        reconnects: Number of connections that the gateway must reopen.
    """

    play: Callable[[Stand, Callable[[], None]], None]
    seconds: float
    is_noticed: bool = True
    loses_history: bool = False
    receives_progress: bool = False
    times: int = 1
    reconnects: int = 2
    lost_after: float = LOST_AFTER
    publish_timeout: float = 2.0


def killed_and_restarted_empty(stand: Stand, while_broken: Callable[[], None]) -> None:
    stand.events.kill()
    while_broken()
    stand.events.restart(keep_data=False)


def killed_and_restarted_with_data(stand: Stand, while_broken: Callable[[], None]) -> None:
    with redis.Redis.from_url(stand.events.url) as client:
        client.save()
    stand.events.kill()
    while_broken()
    stand.events.restart(keep_data=True)


def hanging(stand: Stand, while_broken: Callable[[], None]) -> None:
    with paused([stand.events.pid]):
        while_broken()


def slow(stand: Stand, while_broken: Callable[[], None]) -> None:
    """Round trips take more than a second: longer than the publish timeout."""
    stand.proxy.delay = 0.6
    while_broken()
    stand.proxy.delay = 0.0


def full(stand: Stand, while_broken: Callable[[], None]) -> None:
    """Redis returns ``OOM command not allowed when used memory > 'maxmemory'``."""
    with redis.Redis.from_url(stand.events.url) as client:
        client.config_set("maxmemory", 1)
        while_broken()
        client.config_set("maxmemory", 0)


def half_open(stand: Stand, while_broken: Callable[[], None]) -> None:
    """Packets are dropped silently, as by a router that has lost its state."""
    stand.proxy.go_silent()
    while_broken()
    stand.proxy.heal()


def cut_again_and_again(stand: Stand, while_broken: Callable[[], None]) -> None:
    """Both connections of the gateway are cut each time they are restored."""
    for reconnects in (2, 4, 6):
        stand.proxy.cut()
        wait_until(partial(has_reconnected, stand, reconnects), "two new connections")
    while_broken()


def has_reconnected(stand: Stand, times: int) -> bool:
    """Return whether the gateway has reopened this many connections to Redis."""
    return stand.gateways[0].figures()["jobpush_redis_reconnects_total"] == times


def failed_over(stand: Stand, while_broken: Callable[[], None]) -> None:
    """The primary dies, and its replica takes over its address."""
    replica = stand.start_replica()
    stand.events.kill()
    while_broken()
    with redis.Redis.from_url(replica.url) as client:
        client.replicaof("NO", "ONE")
    stand.take_over(replica)


def demoted(stand: Stand, while_broken: Callable[[], None]) -> None:
    """A replica replaces a primary that stays up: connections to the old primary become read-only."""
    replica = stand.start_replica()
    with redis.Redis.from_url(replica.url) as new, redis.Redis.from_url(stand.events.url) as old:
        old.client_pause(60_000, all=False)  # later writes would be lost
        wait_until(lambda: _offset(new) == _offset(old), "the replica is in sync")
        new.replicaof("NO", "ONE")
        stand.take_over(replica)  # before clients reconnect, which would otherwise reach the old primary
        old.replicaof("127.0.0.1", stand.port_of(replica))
        old.client_unpause()
    while_broken()


def _offset(server: redis.Redis) -> int:
    """Return the replication offset of a primary or a replica."""
    return int(server.info("replication")["master_repl_offset"])


FAULTS = [
    Fault(hanging, PAUSE),
    Fault(half_open, PAUSE),
    Fault(killed_and_restarted_empty, SHORT, loses_history=True),
    Fault(killed_and_restarted_with_data, SHORT, loses_history=True),
    Fault(full, PAUSE, reconnects=0),
    # The replica may lack the last events, so pages resync.
    Fault(failed_over, SHORT, loses_history=True),
    Fault(demoted, SHORT, is_noticed=False, receives_progress=True, loses_history=True),
    Fault(slow, SHORT, is_noticed=False, receives_progress=True, reconnects=0, lost_after=15.0, publish_timeout=1.0),
    Fault(cut_again_and_again, 0.0, is_noticed=False, times=3, reconnects=6),
]

#: The faults of a default run; a full run includes the others.
BASE = (killed_and_restarted_empty, failed_over, cut_again_and_again)
CASES = [pytest.param(fault, id=fault.play.__name__, marks=() if fault.play in BASE else thorough) for fault in FAULTS]


@pytest.fixture(scope="module")
def played(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Future]]:
    """Run the selected faults concurrently; yield their futures by name."""
    chosen = [item.callspec.params["fault"] for item in request.session.items if item.path == request.path]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name_of(fault): pool.submit(play, fault, tmp_path_factory.mktemp(name_of(fault))) for fault in chosen}


def name_of(fault: Fault) -> str:
    return fault.play.__name__


@pytest.mark.parametrize("fault", CASES)
def test_redis_fault(fault: Fault, played: Mapping[str, Future]) -> None:
    played[name_of(fault)].result()


def play(fault: Fault, folder: Path) -> None:
    """Cause a fault while tasks run, and check all guarantees."""
    with Stand(folder, publish_timeout=fault.publish_timeout, lost_after=fault.lost_after) as stand:
        stand.start_worker("-c", "6")
        stand.gateways[0].wait_until_ready()  # earlier visitors would have to reconnect, which the metrics count
        crowd = stand.open_crowd()
        ticker, feed = stand.start_ticker(), stand.start_feed()
        stop = stand.path()
        running = {user: stand.run_until(user, stop) for user in stand.users[:2]}
        crowd.wait_until(lambda: stand.updates() and all(receives_progress(crowd, *pair) for pair in running.items()))
        before = MetricValues.of(stand)
        usual_rate = updates_a_second(stand, 1.0)

        def while_broken() -> None:
            begun, updates = time.monotonic(), stand.updates()
            if fault.is_noticed:
                stand.gateways[0].wait_until_ready(False)
                assert stand.gateways[0].figures()["jobpush_ready"] == 0
            time.sleep(max(1.0, begun + fault.seconds - time.monotonic()))
            if fault.receives_progress:
                wait_for_new_progress(crowd, running)
            rate = (stand.updates() - updates) / (time.monotonic() - begun)
            # Tasks that waited for Redis would report a few updates per second instead of 1,700. On a busy machine,
            # the rate of tasks that do not wait is lower too.
            assert rate > usual_rate / 20, f"tasks are slower: {rate:.0f} updates/s instead of {usual_rate:.0f}"
            assert stand.gateways[0].ask("/jobpush/health/live")[0] == 200
            assert crowd.ends() == [], "a socket was closed"

        fault.play(stand, while_broken)
        stand.gateways[0].wait_until_ready()
        wait_for_new_progress(crowd, running)
        feed.stop()
        assert_indexes_restored(stand, running)
        stop.touch()
        crowd.wait_for_ends(stand.tasks)
        ticker.stop()
        crowd.wait_until(
            lambda: not crowd.missing_numbers(ticker.confirmed), lambda: crowd.missing_numbers(ticker.confirmed)[:9]
        )

        assert crowd.faults() == []
        assert not crowd.states("LOST"), "a task of a live worker is LOST"
        assert crowd.ends() == [], "a socket was closed"
        assert_figures(stand.gateways[0].figures(), crowd, fault)
        assert fault.loses_history or not crowd.resyncs()
        before.assert_unchanged(stand)
        assert_no_flood(stand, fault.times)
        report(fault, stand, crowd, usual_rate, feed.longest)


def receives_progress(crowd: Crowd, user: str, task_id: str, *, beyond: int = 0) -> bool:
    """Return whether all pages of a user show a running task with a seq greater than ``beyond``."""
    pages = [visitor for visitor in crowd.visitors if visitor.user == user]
    return all(page.tasks.get(task_id, (0, ""))[0] > beyond and page.tasks[task_id][1] == "PROGRESS" for page in pages)


def is_listed(stand: Stand, user: str, task_id: str) -> bool:
    """Return whether a newly opened page would show a task."""
    return task_id in {task.task_id for task in stand.jobpush.tasks(user)}


def wait_for_new_progress(crowd: Crowd, running: Mapping[str, str]) -> None:
    """Wait until every page shows newer progress than any page shows now."""
    newest = {
        task_id: max(page.tasks.get(task_id, (0, ""))[0] for page in crowd.visitors) for task_id in running.values()
    }
    crowd.wait_until(
        lambda: all(
            receives_progress(crowd, user, task_id, beyond=newest[task_id]) for user, task_id in running.items()
        ),
        lambda: f"progress beyond {newest}",
    )


def updates_a_second(stand: Stand, seconds: float) -> float:
    begun, updates = time.monotonic(), stand.updates()
    time.sleep(seconds)
    return (stand.updates() - updates) / (time.monotonic() - begun)


def assert_indexes_restored(stand: Stand, running: Mapping[str, str]) -> None:
    """Check the online users, the members of the room, and the listed running tasks."""
    jobpush, users = stand.jobpush, set(stand.users)
    wait_until(lambda: set(jobpush.online_users()) == users, "all users are online")
    wait_until(lambda: set(jobpush.users_in(ROOM)) == users, "all users are in the room")
    for user, task_id in running.items():
        wait_until(lambda user=user, task_id=task_id: is_listed(stand, user, task_id), "a running task is listed")


@dataclass(frozen=True)
class MetricValues:
    """Memory in bytes, threads and open files of each process."""

    of_pids: Mapping[int, tuple[str, int, int, int]]

    @classmethod
    def of(cls, stand: Stand) -> MetricValues:
        """Measure all processes of a stand."""
        return cls({pid: (name, *cls._measure(pid)) for name, pid in stand.pids().items()})

    @staticmethod
    def _measure(pid: int) -> tuple[int, int, int]:
        return memory(pid), threads(pid), descriptors(pid)

    def assert_unchanged(self, stand: Stand) -> None:
        """Check that all processes are running, that none has grown, and that none has lost a thread."""
        for pid, (name, *before) in self.of_pids.items():
            _wait_until_as_before(pid, name, *before)


def _wait_until_as_before(
    pid: int, name: str, memory_before: int, threads_before: int, descriptors_before: int
) -> None:
    grown = memory(pid) - memory_before
    assert grown < GROWTH, f"{name} has grown by {grown / 1e6:.1f} MB"
    wait_until(lambda: threads(pid) >= threads_before, f"{name} has its {threads_before} threads")
    wait_until(lambda: descriptors(pid) <= descriptors_before + 5, f"{name} has {descriptors_before} descriptors")


def assert_figures(figures: Mapping[str, float], crowd: Crowd, fault: Fault) -> None:
    """Check the metrics of the gateway."""
    names = ("ready", "connections", "connections_opened_total", "redis_reconnects_total", "tasks_lost_total")
    pages = len(crowd.visitors)
    assert [figures[f"jobpush_{name}"] for name in names] == [1, pages, pages, fault.reconnects, 0]
    assert figures["jobpush_events_sent_total"] <= crowd.received()
    assert figures["jobpush_events_dropped_total"] == 0


def assert_no_flood(stand: Stand, times: int) -> None:
    """Check that each process logs each message at most once per fault."""
    flood = {line: count for line, count in stand.lines().items() if count > times}
    assert not flood, flood


def report(fault: Fault, stand: Stand, crowd: Crowd, usual_rate: float, longest_delay: float) -> None:
    """Print the measurements; shown in a run with ``-s``."""
    tasks = sum(map(len, stand.tasks.values()))
    print(
        f"\n{name_of(fault)}: {tasks} tasks, {crowd.received()} messages received, {crowd.resyncs()} resyncs,"
        f" {usual_rate:.0f} updates/s before, longest delay() {longest_delay:.2f} s"
    )
    for line, count in sorted(stand.lines().items()):
        print(f"  {count} x {line}")
