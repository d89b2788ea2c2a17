"""What Redis is told of who is there, whenever the way to it breaks."""

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
    """Its calls are what they say."""

    def occupy(self, topic: Topic, number: int, *, is_quiet: bool) -> tuple[Any, ...]:
        return ("occupy", topic, number, "quietly") if is_quiet else ("occupy", topic, number)

    def join(self, channel: str, user_id: str, user_info: str, *, is_quiet: bool, is_new: bool) -> tuple[Any, ...]:
        return "join", user_id, user_info, "new" if is_new else "known"

    def leave(self, channel: str, user_id: str) -> tuple[Any, ...]:
        return "leave", user_id


class FakeLink:
    """A link that answers, or is down, or breaks before the answer."""

    def __init__(self) -> None:
        self.is_up = True
        self.breaks = False
        self.told: list[Any] = []

    def run(self, call: Any, callback: Callable[[Any], None]) -> None:
        if self.is_up:
            self.told.append(call)
        callback(1 if self.is_up and not self.breaks else ConnectionLost())


@pytest.fixture
def link() -> FakeLink:
    return FakeLink()


@pytest.fixture
def loop() -> Any:
    return SimpleNamespace(now=0.0)


@pytest.fixture
def census(link: FakeLink, loop: Any) -> OccupancyReporter:
    lease: Any = SimpleNamespace(presence=FakePresence(), refused=lambda reply: False, doubt=lambda presence: None)
    return OccupancyReporter(loop, cast(Any, link), lease, Config(grace=5.0))


def connection() -> Connection:
    return cast(Connection, SimpleNamespace(counts=()))


def alice(name: str) -> Member:
    return Member("alice", name)


def let_alice_be_away(census: OccupancyReporter) -> None:
    """She was in the room, and her page was closed a moment ago."""
    page = connection()
    census.enter(page, ROOM, alice("Alice"))
    census.flush()
    census.leave_all(page)


def told(census: OccupancyReporter, link: FakeLink) -> list[Any]:
    """What Redis is told by the next flush."""
    link.told.clear()
    census.flush()
    return link.told


@pytest.mark.parametrize("is_on_the_wire", [False, True])
def test_who_leaves_while_the_link_is_broken_has_left_once_it_is_back(
    census: OccupancyReporter, link: FakeLink, is_on_the_wire: bool
) -> None:
    page = connection()
    census.enter(page, ROOM, alice("Alice"))
    census.flush()

    link.is_up, link.breaks = is_on_the_wire, is_on_the_wire
    census.leave(page, ROOM)
    census.flush()
    link.is_up, link.breaks = True, False
    census.say_again(has_lost_data=False)

    assert sorted(told(census, link)) == [("leave", "alice"), ("occupy", ROOM, 0)]
    census.say_again(has_lost_data=False)
    assert told(census, link) == []


def test_who_comes_and_goes_while_the_link_is_broken_is_not_kept(census: OccupancyReporter, link: FakeLink) -> None:
    link.is_up = False
    page = connection()
    census.enter(page, USER)
    census.flush()
    census.leave(page, USER)
    census.flush()

    assert not census._counts
    link.is_up = True
    assert told(census, link) == []


def test_what_redis_has_never_answered_is_news_after_it_has_lost_its_data(
    census: OccupancyReporter, link: FakeLink
) -> None:
    early, late = connection(), connection()
    census.enter(early, USER)
    census.flush()
    link.is_up = False
    census.enter(late, Topic("user:43"))
    census.flush()

    link.is_up = True
    census.say_again(has_lost_data=True)

    assert told(census, link) == [("occupy", USER, 1, "quietly"), ("occupy", "user:43", 1)]


def test_a_member_that_comes_back_within_the_grace_as_another_is_told_anew(
    census: OccupancyReporter, link: FakeLink
) -> None:
    let_alice_be_away(census)

    census.enter(connection(), ROOM, alice("Alice Liddell"))

    assert [call for call in told(census, link) if call[0] != "occupy"] == [
        ("leave", "alice"),
        ("join", "alice", "Alice Liddell", "new"),
    ]


def test_a_member_that_comes_back_as_before_is_no_news(census: OccupancyReporter, link: FakeLink) -> None:
    let_alice_be_away(census)

    census.enter(connection(), ROOM, alice("Alice"))

    assert [call for call in told(census, link) if call[0] == "leave"] == []


def test_while_another_page_is_open_the_first_ones_info_stays(census: OccupancyReporter, link: FakeLink) -> None:
    first, second = connection(), connection()
    census.enter(first, ROOM, alice("Alice"))
    census.flush()

    census.enter(second, ROOM, alice("Alice Liddell"))

    assert not [call for call in told(census, link) if "Alice Liddell" in call or call[0] == "leave"]


def test_who_came_back_as_another_while_the_link_broke_has_left_first(
    census: OccupancyReporter, link: FakeLink
) -> None:
    let_alice_be_away(census)
    census.enter(connection(), ROOM, alice("Alice Liddell"))

    link.breaks = True
    census.flush()
    link.breaks = False
    census.say_again(has_lost_data=False)

    assert [call[:3] for call in told(census, link) if call[0] != "occupy"] == [
        ("leave", "alice"),
        ("join", "alice", "Alice Liddell"),
    ]


def test_an_old_answer_lets_nobody_in_who_has_left_since(census: OccupancyReporter, link: FakeLink) -> None:
    page, later = connection(), connection()
    answers: list[Callable[[Any], None]] = []
    run, link.run = link.run, lambda call, callback: answers.append(callback)  # type: ignore[method-assign, assignment]
    census.enter(page, ROOM, alice("Alice"))
    census.flush()
    census.leave(page, ROOM)
    census.flush()
    for answer in answers[:2]:
        answer(1)

    link.run = run  # type: ignore[method-assign]
    census.enter(later, ROOM, alice("Alice"))

    assert [call for call in told(census, link) if call[0] == "join"] == [("join", "alice", "Alice", "new")]
