"""Gateways that are rolled, killed, or have slow readers, with a thousand pages open."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pytest

from tests.effort import thorough
from tests.waiting import wait_until

from .crowd import NEWS, ROOM, Crowd, Visitor
from .processes import memory
from .stand import Stand

#: Pages that receive numbers and tasks, and pages in a presence channel.
PAGES = 900
PEOPLE = 100
#: Bytes that may wait for one slow reader, in these gateways.
OUTBOX_SIZE = 100_000
#: Bytes beside that which one slow reader may cost: what its frames cost when they wait one by one.
OVERHEAD = 100_000
#: Closes per second with which a gateway lets its pages go; see ``hub.py``.
CLOSES_PER_SECOND = 200.0


@dataclass
class Scene:
    """Two gateways with their pages, and a constant stream of tasks and numbers."""

    stand: Stand
    pages: Crowd
    people: Crowd

    def on_gateway(self, number: int) -> list[Visitor]:
        """Who is connected to one of the gateways."""
        port = self.stand.gateways[number].port
        return [visitor for crowd in (self.pages, self.people) for visitor in crowd.open_ones if visitor.port == port]

    def wait_until_all_are_open(self) -> None:
        """Everybody is back."""
        self.pages.wait_until_all_are_open()
        self.people.wait_until_all_are_open()
        for gateway in self.stand.gateways:
            gateway.wait_until_ready()  # all may be back by way of the other, before one that was killed has started
        wait_until(lambda: self._count() == len(self.on_gateway(0)) + len(self.on_gateway(1)), "no ghost is connected")

    def _count(self) -> float:
        """Return the number of connections, from the metrics of the gateways."""
        return sum(gateway.figures()["jobpush_connections"] for gateway in self.stand.gateways)

    def assert_all_have_received(self, published: Sequence[int]) -> None:
        """Check that all pages have received the numbers and the ends of their tasks, in order and once."""
        self.pages.wait_for_ends(self.stand.tasks)
        missing = self.pages.missing_numbers
        self.pages.wait_until(lambda: not missing(published), lambda: missing(published)[:9])
        assert self.pages.faults() == self.people.faults() == []
        assert self.pages.resyncs() == self.people.resyncs() == 0


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One for all of these, in the order in which they stand here."""
    # Who has not come back from a killed gateway when its lease ends has left: on a busy machine 6 s are too few.
    settings = {"grace": 5.0, "lease": 15.0, "outbox_size": OUTBOX_SIZE}
    with Stand(tmp_path_factory.mktemp("gateways"), gateways=2, users=90, **settings) as stand:
        stand.start_worker("-c", "2")
        for gateway in stand.gateways:
            gateway.wait_until_ready()
        users = list(itertools.islice(itertools.cycle(stand.users), PAGES))
        pages = stand.open_crowd(users=users, channels=(NEWS,), spreads=False)
        people = stand.open_crowd(users=[f"person-{number}" for number in range(PEOPLE)], channels=(ROOM,))
        yield Scene(stand, pages, people)


@pytest.fixture(autouse=True)
def silence(scene: Scene) -> Iterator[None]:
    """Stop publishing at the end of a test, so that the next one receives nothing of it."""
    yield
    scene.stand.fall_silent()


@thorough
def test_pages_of_a_rolled_gateway_leave_gradually_and_miss_nothing(scene: Scene) -> None:
    stand = scene.stand
    ticker, feed = stand.start_ticker(0.3), stand.start_feed(0.3)
    for number, gateway in enumerate(stand.gateways):
        begun, count = time.monotonic(), len(scene.on_gateway(number))

        gateway.stop()
        gateway.start().wait_until_ready()

        scene.wait_until_all_are_open()
        ends = sorted([*scene.pages.ends(begun), *scene.people.ends(begun)])
        spread, wanted = ends[-1][0] - ends[0][0], min(5.0, count / CLOSES_PER_SECOND)
        assert {code for _, code in ends} == {4200}
        assert len(ends) == count
        assert spread > wanted / 2, f"{count} pages were let go within {spread:.1f} s"
        print(f"\nFIG roll: {count} pages let go over {spread:.1f} s, all back after {time.monotonic() - begun:.1f} s")
    feed.stop()
    ticker.stop()

    scene.assert_all_have_received(ticker.sure)
    assert not any(person.farewells for person in scene.people.visitors), "no member left"


def test_pages_of_a_killed_gateway_reconnect_and_leave_no_ghost(scene: Scene) -> None:
    stand = scene.stand
    ticker, feed = stand.start_ticker(0.3), stand.start_feed(0.3)
    begun, count = time.monotonic(), len(scene.on_gateway(0))
    gone = [visitor for visitor in scene.on_gateway(0) if visitor in scene.people.visitors][:10]

    stand.gateways[0].kill()
    scene.people.hang_up(gone, for_good=True)  # their laptops were closed in the same moment
    wait_until(lambda: not scene.on_gateway(0), "all pages have noticed")
    stand.gateways[0].start()

    scene.wait_until_all_are_open()
    back = time.monotonic() - begun
    there = {person.user for person in scene.people.visitors if person not in gone}
    wait_until(lambda: set(stand.jobpush.users_in(ROOM)) == there, "no ghost is in the room")
    scene.people.wait_until(
        lambda: all(person.members == there for person in scene.people.visitors if person.is_wanted),
        lambda: [person.members - there for person in scene.people.visitors][:3],
    )
    print(f"\nFIG kill: {count} pages back after {back:.1f} s, no ghost after {time.monotonic() - begun:.1f} s")
    feed.stop()
    ticker.stop()
    scene.assert_all_have_received(ticker.sure)
    assert {name for person in scene.people.open_ones for name in person.farewells} == {person.user for person in gone}


@thorough
def test_frozen_readers_use_bounded_memory_and_resume_with_the_newest_state(scene: Scene) -> None:
    stand = scene.stand
    users = [f"slow-{number}" for number in range(5)]
    watchers = stand.open_crowd(users=users * 10, channels=(NEWS,), receive_buffer=4_096)
    listeners = stand.open_crowd(users=users * 10, channels=("noise",), receive_buffer=4_096)
    worker = stand.start_worker("-P", "threads", "-c", "5", "-Q", "quick", min_interval=0.02)
    before = {gateway.pid: memory(gateway.pid) for gateway in stand.gateways}
    received_before, let_go_before = scene.pages.received(), let_go(stand)
    stop, begun = stand.path(), time.monotonic()
    running = {user: stand.run_until(user, stop, "x" * 4_000, queue="quick") for user in users}
    watchers.wait_until(lambda: all(watcher.tasks for watcher in watchers.visitors))

    watchers.stop_reading(watchers.visitors)
    listeners.stop_reading(listeners.visitors)
    ticker, noise = stand.start_ticker(0.05), stand.start_ticker(0.02, channel="noise", padding=9_000)
    grown = 0

    def is_reached(is_so: bool) -> bool:
        nonlocal grown
        grown = max(grown, sum(memory(pid) - bytes_before for pid, bytes_before in before.items()))
        return is_so

    wait_until(lambda: is_reached(len(noise.sure) >= 150), "the events exceed every outbox")
    noise.stop()  # long before it is more than the history holds, however long all else may take
    wait_until(
        lambda: is_reached(let_go(stand) - let_go_before >= len(listeners.visitors)), "all listeners were let go"
    )
    wait_until(lambda: is_reached(page_of(stand, running[users[0]]) >= 200), "the tasks have reported much")
    ticker.stop()
    received = scene.pages.received() - received_before
    updates = {task_id: page_of(stand, task_id) for task_id in running.values()}
    watchers.read_again(watchers.visitors)
    listeners.read_again(listeners.visitors)

    watchers.wait_until(lambda: all(w.tasks[running[w.user]][0] >= updates[running[w.user]] for w in watchers.visitors))
    stop.touch()
    listeners.wait_until(
        lambda: not listeners.missing_numbers(noise.sure), lambda: listeners.missing_numbers(noise.sure)[:5]
    )
    watchers.wait_for_ends(stand.tasks)
    read, published = (
        sum(w.task_events for w in watchers.visitors),
        10 * sum(map(partial(page_of, stand), running.values())),
    )
    slow = len(watchers.visitors) + len(listeners.visitors)
    codes = {code for _, code in listeners.ends(begun)}
    print(
        f"\nFIG frozen: {slow} of {slow + PAGES + PEOPLE} pages, {received / (time.monotonic() - begun):.0f} messages/s"
        f" to the others, {grown / 1e6:.1f} MB more in both gateways, {len(listeners.ends(begun))} closed with {codes},"
        f" {read} messages read by {len(watchers.visitors)} watchers of {published}"
    )
    dropped = sum(gateway.figures()["jobpush_events_dropped_total"] for gateway in stand.gateways)
    conflated = sum(gateway.figures()["jobpush_events_conflated_total"] for gateway in stand.gateways)
    assert dropped > 0 and conflated >= published - read, (dropped, conflated)
    assert grown < slow * (OUTBOX_SIZE + OVERHEAD), f"{grown / 1e6:.1f} MB for {slow} slow readers"
    assert len({visitor.number for visitor in listeners.visitors if visitor.ends}) == len(listeners.visitors)
    assert codes <= {0, 4100}, "a page gets a reconnect code, or finds its connection broken"
    assert not watchers.ends(begun), "what gives way to newer does not fill an outbox"
    assert read < published, "they were not slow enough for this test"
    assert watchers.faults() == listeners.faults() == []
    assert listeners.resyncs() == 0
    scene.assert_all_have_received(ticker.sure)
    worker.kill()


def let_go(stand: Stand) -> float:
    """How many readers the gateways have let go since they were started, for they were too slow."""
    name = 'jobpush_refusals_total{reason="slow_reader"} '
    lines = [line for gateway in stand.gateways for line in gateway.ask("/jobpush/metrics")[1].splitlines()]
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


def page_of(stand: Stand, task_id: str) -> int:
    """The seq that a page which is opened now would show of a task."""
    return stand.store.task(task_id).seq
