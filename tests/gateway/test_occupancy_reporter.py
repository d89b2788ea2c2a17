"""Reports of connections and members to Redis, whenever the connection to it breaks."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from jobpush.channels import Topic
from jobpush.config import Config
from jobpush.gateway.connection import Connection
from jobpush.gateway.presence.occupancy_reporter import OccupancyReporter
from jobpush.protocol.actions import Member
from jobpush.store.redis.command_connection import ConnectionLost

ROOM = Topic("channel:presence-room")
USER = Topic("user:42")


class FakePresence:
    """Returns its calls as tuples."""

    def occupy(
        self, topic: Topic, number: int, *, subscribed: int | None, is_quiet: bool, is_lost: bool
    ) -> tuple[Any, ...]:
        return ("occupy", topic, number, "quietly") if is_quiet else ("occupy", topic, number)

    def join(self, channel: str, user_id: str, user_info: str, *, is_quiet: bool, is_new: bool) -> tuple[Any, ...]:
        return "join", user_id, user_info, "new" if is_new else "known"

    def leave(self, channel: str, user_id: str) -> tuple[Any, ...]:
        return "leave", user_id


class FakeCommands:
    """A commands that answers, or is down, or breaks before the answer."""

    def __init__(self) -> None:
        self.is_up = True
        self.breaks = False
        self.sent: list[Any] = []

    def run(self, call: Any, callback: Callable[[Any], None]) -> None:
        if self.is_up:
            self.sent.append(call)
        callback(1 if self.is_up and not self.breaks else ConnectionLost())


@pytest.fixture
def commands() -> FakeCommands:
    return FakeCommands()


@pytest.fixture
def loop() -> Any:
    return SimpleNamespace(now=0.0)


@pytest.fixture
def reporter(commands: FakeCommands, loop: Any) -> OccupancyReporter:
    lease: Any = SimpleNamespace(presence=FakePresence(), refused=lambda reply: False, doubt=lambda presence: None)
    return OccupancyReporter(loop, cast(Any, commands), lease, Config(grace=5.0), lambda topic: 0, lambda topic: None)


def connection() -> Connection:
    return cast(Connection, SimpleNamespace(counts=()))


def alice(name: str) -> Member:
    return Member("alice", name)


def let_alice_be_away(reporter: OccupancyReporter) -> None:
    """She was in the room, and her page was closed a moment ago."""
    page = connection()
    reporter.enter(page, ROOM, alice("Alice"))
    reporter.flush()
    reporter.leave_all(page)


def sent(reporter: OccupancyReporter, commands: FakeCommands) -> list[Any]:
    """Return the calls of the next flush."""
    commands.sent.clear()
    reporter.flush()
    return commands.sent


@pytest.mark.parametrize("is_on_the_wire", [False, True])
def test_leave_during_a_lost_redis_connection_is_reported_afterwards(
    reporter: OccupancyReporter, commands: FakeCommands, is_on_the_wire: bool
) -> None:
    page = connection()
    reporter.enter(page, ROOM, alice("Alice"))
    reporter.flush()

    commands.is_up, commands.breaks = is_on_the_wire, is_on_the_wire
    reporter.leave(page, ROOM)
    reporter.flush()
    commands.is_up, commands.breaks = True, False
    reporter.republish(has_lost_data=False)

    assert sorted(sent(reporter, commands)) == [("leave", "alice"), ("occupy", ROOM, 0)]
    reporter.republish(has_lost_data=False)
    assert sent(reporter, commands) == []


def test_visit_during_a_lost_redis_connection_is_not_kept(reporter: OccupancyReporter, commands: FakeCommands) -> None:
    commands.is_up = False
    page = connection()
    reporter.enter(page, USER)
    reporter.flush()
    reporter.leave(page, USER)
    reporter.flush()

    assert not reporter._counts
    commands.is_up = True
    assert sent(reporter, commands) == []


def test_unacknowledged_count_is_announced_after_redis_lost_its_data(
    reporter: OccupancyReporter, commands: FakeCommands
) -> None:
    early, late = connection(), connection()
    reporter.enter(early, USER)
    reporter.flush()
    commands.is_up = False
    reporter.enter(late, Topic("user:43"))
    reporter.flush()

    commands.is_up = True
    reporter.republish(has_lost_data=True)

    assert sent(reporter, commands) == [("occupy", USER, 1, "quietly"), ("occupy", "user:43", 1)]


def test_member_that_returns_with_other_info_is_reported_again(
    reporter: OccupancyReporter, commands: FakeCommands
) -> None:
    let_alice_be_away(reporter)

    reporter.enter(connection(), ROOM, alice("Alice Liddell"))

    assert [call for call in sent(reporter, commands) if call[0] != "occupy"] == [
        ("leave", "alice"),
        ("join", "alice", "Alice Liddell", "new"),
    ]


def test_member_that_returns_unchanged_is_not_announced(reporter: OccupancyReporter, commands: FakeCommands) -> None:
    let_alice_be_away(reporter)

    reporter.enter(connection(), ROOM, alice("Alice"))

    assert [call for call in sent(reporter, commands) if call[0] == "leave"] == []


def test_info_of_the_first_page_stays_while_another_is_open(
    reporter: OccupancyReporter, commands: FakeCommands
) -> None:
    first, second = connection(), connection()
    reporter.enter(first, ROOM, alice("Alice"))
    reporter.flush()

    reporter.enter(second, ROOM, alice("Alice Liddell"))

    assert not [call for call in sent(reporter, commands) if "Alice Liddell" in call or call[0] == "leave"]


def test_member_with_other_info_after_a_lost_redis_connection_leaves_first(
    reporter: OccupancyReporter, commands: FakeCommands
) -> None:
    let_alice_be_away(reporter)
    reporter.enter(connection(), ROOM, alice("Alice Liddell"))

    commands.breaks = True
    reporter.flush()
    commands.breaks = False
    reporter.republish(has_lost_data=False)

    assert [call[:3] for call in sent(reporter, commands) if call[0] != "occupy"] == [
        ("leave", "alice"),
        ("join", "alice", "Alice Liddell"),
    ]


def test_late_reply_admits_no_member_that_has_left(reporter: OccupancyReporter, commands: FakeCommands) -> None:
    page, later = connection(), connection()
    answers: list[Callable[[Any], None]] = []
    run, commands.run = commands.run, lambda call, callback: answers.append(callback)  # type: ignore[method-assign, assignment]
    reporter.enter(page, ROOM, alice("Alice"))
    reporter.flush()
    reporter.leave(page, ROOM)
    reporter.flush()
    for answer in answers[:2]:
        answer(1)

    commands.run = run  # type: ignore[method-assign]
    reporter.enter(later, ROOM, alice("Alice"))

    assert [call for call in sent(reporter, commands) if call[0] == "join"] == [("join", "alice", "Alice", "new")]


def test_lost_connection_counts_until_the_grace_has_passed(
    reporter: OccupancyReporter, commands: FakeCommands, loop: Any
) -> None:
    let_alice_be_away(reporter)
    for loop.now in (0.0, 1.0, 4.9):
        reporter.tick()
        assert sent(reporter, commands) == []

    loop.now = 5.0
    reporter.tick()

    assert sent(reporter, commands) == [("leave", "alice"), ("occupy", ROOM, 0)]


def test_lost_connection_without_grace_is_reported_at_once(commands: FakeCommands, loop: Any) -> None:
    lease: Any = SimpleNamespace(presence=FakePresence(), refused=lambda reply: False, doubt=lambda presence: None)
    reporter = OccupancyReporter(
        loop, cast(Any, commands), lease, Config(grace=0.0), lambda topic: 0, lambda topic: None
    )

    let_alice_be_away(reporter)

    assert sent(reporter, commands) == [("leave", "alice"), ("occupy", ROOM, 0)]


def test_reports_after_a_reconnect_wait_for_earlier_replies(
    reporter: OccupancyReporter, commands: FakeCommands
) -> None:
    answers: list[Callable[[Any], None]] = []
    commands.run = lambda call, callback: answers.append(callback)  # type: ignore[method-assign, assignment]
    for number in range(1_000):
        reporter.enter(connection(), Topic(f"user:{number}"))

    reporter.flush()
    reporter.flush()
    assert (len(answers), reporter.is_behind(None)) == (256, True)
    for answer in answers[:100]:
        answer([1, 0])
    reporter.flush()
    assert len(answers) == 356
    for answer in answers[100:]:
        answer(ConnectionLost())
    reporter.flush()
    assert len(answers) == 612
