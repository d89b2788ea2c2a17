"""Delivery of live events to listeners, with histories and live events in any order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from jobpush.channels import Topic
from jobpush.config import Config
from jobpush.gateway.broadcast import Broadcast, Listener
from jobpush.gateway.channel import CatchUp, Channel
from jobpush.gateway.counters import Refusals, Traffic
from jobpush.gateway.hub import Hub
from jobpush.gateway.topics import Topics
from jobpush.protocol.actions import Subscribe
from jobpush.store.messages import read_message


class FakeListener:
    """Records the ids and seqs of received events, and how often its socket id was read."""

    def __init__(self, socket_id: str = "1.1") -> None:
        self.received: list[bytes | None] = []
        self.seqs: list[int] = []
        self.times_asked = 0
        self._socket_id = socket_id

    @property
    def socket_id(self) -> str:
        self.times_asked += 1
        return self._socket_id

    def deliver(self, broadcasts: Iterable[Broadcast], frames: bytes) -> None:
        self.received += [broadcast.stream_id for broadcast in broadcasts]
        self.seqs += [broadcast.seq for broadcast in broadcasts]


@pytest.fixture
def traffic() -> Traffic:
    return Traffic()


@pytest.fixture
def topics(traffic: Traffic) -> Topics:
    def nothing(*arguments: Any) -> None:
        pass

    pubsub: Any = SimpleNamespace(subscribe=nothing, unsubscribe=nothing)
    return Topics(pubsub, str, nothing, nothing, 5.0, traffic)


@pytest.fixture
def channel(topics: Topics) -> Channel:
    return topics.subscribe(Topic("channel:news")).channel("news")


def test_first_listener_is_live_at_once_without_duplicates(topics: Topics, channel: Channel) -> None:
    connection = join(channel, position=b"5-0")

    publish(topics, b"4-0", b"5-0")
    publish(topics, b"6-0", b"7-0")

    assert not channel.catch_ups
    assert connection.received == [b"6-0", b"7-0"]


def test_listeners_with_the_same_history_are_live_together(topics: Topics, channel: Channel) -> None:
    connections = [join(channel, position=b"5-0") for _ in range(2)]

    publish(topics, b"5-0", b"6-0")

    assert not channel.catch_ups
    assert [connection.received for connection in connections] == [[b"6-0"], [b"6-0"]]


def test_history_ahead_of_the_live_events_waits_for_them(topics: Topics, channel: Channel) -> None:
    first, second = join(channel, position=b"5-0"), join(channel, position=b"6-0")

    publish(topics, b"6-0")
    third = join(channel, position=b"6-0")
    publish(topics, b"7-0")

    assert not channel.catch_ups
    assert [one.received for one in (first, second, third)] == [[b"6-0", b"7-0"], [b"7-0"], [b"7-0"]]


def test_event_without_an_id_is_always_received(topics: Topics, channel: Channel) -> None:
    connection = join(channel, position=b"5-0")

    publish(topics, b"-", b"5-0", b"6-0")

    assert connection.received == [None, b"6-0"]


def test_next_listener_after_all_unsubscribed_starts_from_its_own_history(topics: Topics, channel: Channel) -> None:
    channel.discard(cast(Listener, join(channel, position=b"5-0")))

    connection = join(channel, position=b"9-0")
    publish(topics, b"8-0", b"9-0", b"10-0")

    assert connection.received == [b"10-0"]


def test_listener_behind_the_next_history_misses_nothing(topics: Topics, channel: Channel) -> None:
    first = join(channel, position=b"8-0")
    second = join(channel, position=b"10-0")
    channel.discard(cast(Listener, first))
    third = join(channel, position=b"12-0")

    for stream_id in (b"11-0", b"12-0", b"13-0"):
        publish(topics, stream_id)

    assert second.received == [b"11-0", b"12-0", b"13-0"]
    assert third.received == [b"13-0"]


@pytest.mark.parametrize(("published", "since"), [((), "5-0"), ((b"4-0",), "5-0"), ((b"6-0",), "6-0")])
def test_lost_subscription_catches_up_from_the_last_event(
    topics: Topics, channel: Channel, published: tuple[bytes, ...], since: str
) -> None:
    join(channel, position=b"5-0")
    publish(topics, *published)

    topics.suspend()

    assert [catch_up.since for catch_up in channel.catch_ups] == [since]
    assert not channel.listeners


def test_client_event_is_delivered_to_all_others_in_one_pass(
    topics: Topics, channel: Channel, traffic: Traffic
) -> None:
    sender, *others = (join(channel, position=b"5-0", socket_id=f"1.{number}") for number in range(4))

    publish(topics, b"6-0", b"7-0", b"8-0", sender="1.0")

    assert sender.received == [b"6-0", b"8-0"]
    assert [one.received for one in others] == [[b"6-0", b"7-0", b"8-0"]] * 3
    assert [one.times_asked for one in others] == [1] * 3
    assert traffic.deliveries == 11


def test_sender_of_the_only_event_receives_nothing(topics: Topics, channel: Channel, traffic: Traffic) -> None:
    sender, other = (join(channel, position=b"5-0", socket_id=f"1.{number}") for number in range(2))

    publish(topics, b"7-0", sender="1.0")

    assert (sender.received, other.received) == ([], [b"7-0"])
    assert traffic.deliveries == 1


def test_member_snapshots_older_than_the_history_are_dropped(topics: Topics) -> None:
    """They are in no history, so that they have no id; and the history comes by another connection."""
    channel = topics.subscribe(Topic("channel:news")).channel("private-task-member")
    early = join(channel, position=b"5-0", history=[member(channel, 2)])
    publish_member(topics, 3)
    late = join(channel, position=b"6-0", history=[member(channel, 5)])

    for seq in (4, 5, 6, 7):
        publish_member(topics, seq)

    assert early.seqs == [3, 4, 5, 6, 7]
    assert late.seqs == [6, 7]
    assert not channel.catch_ups


def test_member_snapshot_received_before_the_history_is_delivered_once(topics: Topics) -> None:
    channel = topics.subscribe(Topic("channel:news")).channel("private-task-member")
    connection = FakeListener()
    catch_up = channel.begin_catch_up(cast(Listener, connection), Subscribe(channel.name))
    publish_member(topics, 2)
    publish_member(topics, 4)

    catch_up.finish(b"5-0", [member(channel, 3)])

    assert [one.seq for one in catch_up.batch.take()] == [4]


def test_client_event_on_a_task_channel_stays_on_it(topics: Topics) -> None:
    topic = topics.subscribe(Topic("channel:news"))
    whole, of_task = topic.channel("news"), topic.channel("private-task-shared")
    everything, one_task = join(whole, position=b"5-0"), join(of_task, position=b"5-0")

    topics.on_message(b"channel:news", b'- shared 0 1 -\n"event":"client-hello","data":"{}"')
    topics.on_message(b"channel:news", b'6-0 shared 0 1 -\n"event":"jobpush:log","data":"{}"')
    topics.flush()

    assert everything.received == [b"6-0"]
    assert one_task.received == [None, b"6-0"]


@pytest.mark.parametrize(
    "payload",
    [
        b'abc - 0 1 -\n"event":"x","data":"{}"',
        b'1-x - 0 1 -\n"event":"x","data":"{}"',
        b'-1-1 - 0 1 -\n"event":"x","data":"{}"',
        b'1-1 - seq 1 -\n"event":"x","data":"{}"',
        b'1-1 - 0 1 \xff\n"event":"x","data":"{}"',
        b"1-1 - 0 1 -\n}",
        b"1-1 - 0 1 -\n",
        b"1-1 - 0 1 -",
        b"hello",
        b"",
        b"\xff" * 100,
        b"- ! 0 1 -\nno JSON",
        b"- ! 0 1 -\n[]",
        b"- ! 0 1 -\n{}",
        b'- ! 0 1 -\n{"command":"disconnect"}',
        b"- - 1 1 -\nno JSON",
        b"- - 7 1 -\n" + b"[" * 100_000,
        b'7-0 - 0 1 -\n"event":"news","data":"\xff"',
    ],
    ids=lambda payload: repr(payload[:30]),
)
def test_malformed_messages_are_dropped_with_one_log_line(
    hub: Hub, payload: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    topics = hub._topics
    listeners = [
        join(topics.subscribe(Topic(f"channel:{name}")).channel(name), position=b"5-0")
        for name in ("news", "presence-room")
    ]
    topics.watch(Topic("watch:42"), "42")

    for _ in range(3):
        for name in ("channel:news", "channel:presence-room", "watch:42"):
            topics.on_message(topics.key_of(Topic(name)).encode(), payload)
    for name in ("channel:news", "channel:presence-room"):
        topics.on_message(topics.key_of(Topic(name)).encode(), b'6-0 - 0 1 -\n"event":"news","data":"{}"')
    topics.flush()
    topics.suspend()

    assert [listener.received for listener in listeners] == [[b"6-0"], [b"6-0"]]
    assert len([line for line in caplog.messages if "malformed message" in line]) <= 1


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub that is not started."""
    hub = Hub(Config(redis_url="redis://localhost"), Refusals())
    yield hub
    hub.loop.close()


def member(channel: Channel, seq: int) -> Broadcast:
    """A snapshot of a workflow's member, as a history has it."""
    return Broadcast(channel.wire_name, read_message(member_message(seq)))


def member_message(seq: int) -> bytes:
    return b'- member %d 1 -\n"event":"jobpush:task","data":"{}"' % seq


def publish_member(topics: Topics, seq: int) -> None:
    topics.on_message(b"channel:news", member_message(seq))
    topics.flush()


def join(
    channel: Channel, *, position: bytes, socket_id: str = "1.1", history: Sequence[Broadcast] = ()
) -> FakeListener:
    """A connection that has got the history up to ``position``."""
    connection = FakeListener(socket_id)
    catch_up: CatchUp = channel.begin_catch_up(cast(Listener, connection), Subscribe(channel.name))
    catch_up.is_asked = True
    catch_up.finish(position, history)
    channel.settle(catch_up)
    return connection


def publish(topics: Topics, *stream_ids: bytes, sender: str = "-") -> None:
    """Events of one wake-up; the one with the id 7-0 is a client's, where ``sender`` names its socket."""
    for stream_id in stream_ids:
        excluded = sender.encode() if stream_id == b"7-0" else b"-"
        topics.on_message(b"channel:news", stream_id + b' - 0 1 %b\n"event":"news","data":"{}"' % excluded)
    topics.flush()
