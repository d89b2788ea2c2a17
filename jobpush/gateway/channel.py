"""
Channels and their listeners in this process.

Listeners are up to date, or catch up: they lack events that were published before they subscribed, or while Redis was
unreachable.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from ..channels import ChannelKind, Topic, parse_channel
from ..protocol.actions import Subscribe
from ..store.hub_commands import stream_position
from ..store.messages import Message
from .broadcast import Batch, Broadcast, Listener
from .counters import Traffic
from .presence.roster import LiveRoster
from .presence.watched import Watched


@dataclass(eq=False, slots=True)
class CatchUp:
    """
    Listeners of one channel that need the same part of its history.

    Live events that arrive meanwhile are kept for them. Once they have the history up to ``position``, kept events up
    to there are dropped; the first live event beyond it makes them up to date. Snapshots of a workflow's member are in
    no history: their ``seq`` decides which are older than the one that the listeners got.

    Args:
        channel: The channel.
        since: Stream id of the last event that they have; empty for none.
        is_new: Whether they have just subscribed, and expect the answer to that.
    """

    channel: Channel
    since: str
    is_new: bool
    #: Each with its request; ``None`` where it had subscribed before.
    listeners: dict[Listener, Subscribe | None] = field(default_factory=dict)
    batch: Batch = field(default_factory=Batch)
    is_asked: bool = False
    #: Answers to earlier attempts are ignored.
    attempt: int = 0
    #: Stream id up to which they have the history; ``None`` before they have it.
    position: bytes | None = None
    #: ``seq`` of the workflow member's snapshot that they have; 0: none.
    seq: int = 0
    #: Whether live events beyond that have arrived.
    is_live: bool = False

    @property
    def has_answer(self) -> bool:
        """Whether the listeners have the answer to their subscription."""
        return self.position is not None or not self.is_new

    def receive(self, broadcast: Broadcast) -> None:
        """Keep a live event, unless the history held it."""
        if self.position is not None:
            if broadcast.stream_id is not None:
                if stream_position(broadcast.stream_id) <= stream_position(self.position):
                    return
                self.is_live = True
            elif self.seq and broadcast.key is not None:
                if broadcast.seq <= self.seq:
                    return
                self.is_live = True
        self.batch.add(broadcast)

    def receive_member(self, broadcast: Broadcast) -> None:
        """Pass on a change of members; new listeners get the whole roster with the answer to their subscription."""
        if self.position is not None:
            self.batch.add(broadcast)
        elif not self.is_new:
            for listener in self.listeners:
                listener.queue((broadcast,))

    def finish(self, position: bytes, history: Iterable[Broadcast] = ()) -> None:
        """Note that the listeners have the history up to a position; drop kept events that it held."""
        self.position = position
        self.seq = max((one.seq for one in history if one.stream_id is None and one.key is not None), default=0)
        for broadcast in self.batch.take():
            self.receive(broadcast)

    def restart(self) -> None:
        """Begin again after the subscription broke: the kept events may have gaps."""
        if self.position is not None:
            self.since, self.is_new = self.position.decode(), False
            self.listeners = dict.fromkeys(self.listeners)
        self.position, self.seq = None, 0
        self.batch.take()
        self.expect_no_answer()

    def expect_no_answer(self) -> None:
        """Ignore the answer to the present attempt, so that the history is asked for again."""
        self.is_asked = False
        self.attempt += 1


class Channel:
    """A channel and its listeners in this process."""

    __slots__ = (
        "catch_ups",
        "floor",
        "fresh",
        "listeners",
        "name",
        "occupancy_topic",
        "roster",
        "task_id",
        "topic",
        "wire_name",
    )

    def __init__(self, kind: ChannelKind, topic: TopicState) -> None:
        self.name = kind.name
        self.wire_name = kind.name.encode()
        self.topic = topic
        #: The topic under which its connections are counted.
        self.occupancy_topic = topic.name if kind.user_id is not None else kind.occupancy_topic
        #: The task of its events; ``None``: it carries all events of its topic.
        self.task_id = None if kind.task_id is None else kind.task_id.encode()
        #: Its members, for presence channels only.
        self.roster = LiveRoster() if kind.is_presence else None
        #: Up-to-date listeners in the order in which they subscribed. The kernel holds their sockets in that order too,
        #: and with many of them memory access dominates the cost of a delivery.
        self.listeners: dict[Listener, None] = {}
        #: Stream id up to which they had everything when they subscribed, beyond the live events of that time; ``None``
        #: from the first live event beyond it on.
        self.floor: bytes | None = None
        self.catch_ups: tuple[CatchUp, ...] = ()
        #: Events of the present wake-up; ``None``: none yet.
        self.fresh: list[Broadcast] | None = None

    def carries(self, message: Message) -> bool:
        """Return whether a message of the topic belongs to this channel."""
        return self.task_id is None or self.task_id == message.task_id

    def is_beyond_floor(self, message: Message) -> bool:
        """Return whether up-to-date listeners lack a message, while there is a floor."""
        if message.stream_id is not None and self.floor is not None:
            if stream_position(message.stream_id) <= stream_position(self.floor):
                return False
            self.floor = None
        return True

    def begin_catch_up(self, listener: Listener, request: Subscribe) -> CatchUp:
        """Add a listener. Return its catch-up: a new one, or one for the same history that is not asked for yet."""
        since = request.since or ""
        for waiting in self.catch_ups:
            if waiting.is_new and waiting.since == since and not waiting.is_asked and waiting.position is None:
                waiting.listeners[listener] = request
                return waiting
        catch_up = CatchUp(self, since, is_new=True)
        catch_up.listeners[listener] = request
        self.catch_ups += (catch_up,)
        return catch_up

    def settle(self, catch_up: CatchUp) -> None:
        """Merge listeners that have the history with those that have as much: the up-to-date ones where possible."""
        if catch_up not in self.catch_ups:
            return  # all listeners have unsubscribed
        self._drop(catch_up)
        live, position = self.topic.position, catch_up.position
        if position is not None and not catch_up.seq:
            is_reached = live is not None and stream_position(live) >= stream_position(position)
            floor = None if is_reached else position
            if not self.listeners and not any(one.position for one in self.catch_ups):
                self.floor = floor  # no listener below it is about to become up to date
            if self.floor == floor:
                self._add(catch_up.listeners)
                return
        for other in self.catch_ups:
            if other.position == position and other.seq == catch_up.seq:
                other.listeners.update(catch_up.listeners)
                return
        self.catch_ups += (catch_up,)

    def suspend(self) -> None:
        """Let all listeners catch up: the subscription in Redis is gone."""
        for catch_up in self.catch_ups:
            catch_up.restart()
        if self.listeners:
            position = max(filter(None, (self.topic.position, self.floor)), key=stream_position, default=b"")
            catch_up = CatchUp(self, position.decode(), is_new=False)
            catch_up.listeners = dict.fromkeys(self.listeners)
            self.listeners = {}
            self.catch_ups += (catch_up,)
        self.floor = None
        if self.roster is not None:
            self.roster.suspend()

    def discard(self, listener: Listener) -> None:
        """Remove a listener."""
        self.listeners.pop(listener, None)
        for catch_up in self.catch_ups:
            catch_up.listeners.pop(listener, None)
        # A catch-up under way stays until its reply: the next listener needs a new one anyway.
        self.catch_ups = tuple(one for one in self.catch_ups if one.listeners)

    def send_to_all(self, text: bytes) -> None:
        """Send a message that is in no history to all listeners that have the answer to their subscription."""
        answered: list[Collection[Listener]] = [
            self.listeners,
            *(one.listeners for one in self.catch_ups if one.has_answer),
        ]
        for listeners in answered:
            for listener in listeners:
                listener.send_bounded(text)

    @property
    def is_idle(self) -> bool:
        """Whether it has no listener."""
        return not self.listeners and not self.catch_ups

    def flush(self, traffic: Traffic) -> None:
        """Send the events of the wake-up to all listeners."""
        fresh, self.fresh = self.fresh, None
        if fresh and self.listeners:
            if len(fresh) > 1:
                batch = Batch(fresh)
                traffic.replace(batch.conflated * len(self.listeners))
                fresh = batch.take()
            _deliver(self.listeners, fresh, traffic)
        for catch_up in self.catch_ups:
            if catch_up.position is not None and len(catch_up.batch):
                traffic.replace(catch_up.batch.conflated * len(catch_up.listeners))
                _deliver(tuple(catch_up.listeners), catch_up.batch.take(), traffic)
                if catch_up.is_live:
                    self._drop(catch_up)
                    self._add(catch_up.listeners)

    def _add(self, listeners: Iterable[Listener]) -> None:
        for listener in listeners:  # dict.update() with one listener would make a dictionary of twice the size
            self.listeners[listener] = None

    def _drop(self, catch_up: CatchUp) -> None:
        self.catch_ups = tuple(one for one in self.catch_ups if one is not catch_up)


@dataclass(eq=False, slots=True)
class TopicState:
    """
    A topic that this process subscribes to in Redis, with the channels that it feeds.

    Args:
        name: The topic.
        key: Its pub/sub channel in Redis.
    """

    # Most are one user's, with one channel and one connection: attributes that may stay empty are None.
    name: Topic
    key: bytes
    #: Whether Redis has confirmed the subscription: no message is missed from then on.
    is_confirmed: bool = False
    #: Stream id of its last live event since it was confirmed; ``None``: none yet.
    position: bytes | None = None
    #: Connections that are signed in as its user; commands about the user arrive on this topic.
    signed_in: int = 0
    #: The user of the announced presence; such a topic has no channels.
    watched: Watched | None = None
    #: Its channels: those that carry all of it, which are two at most, and those of one task, by the task's id.
    whole: tuple[Channel, ...] = ()
    tasks: dict[bytes, Channel] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing in this process needs it."""
        return not self.whole and not self.tasks and not self.signed_in and self.watched is None

    def channels(self) -> Iterator[Channel]:
        """Iterate over all of its channels."""
        yield from self.whole
        yield from (self.tasks or {}).values()

    def channel(self, name: str) -> Channel:
        """Return the channel of that name, a new one if there is none."""
        kind = parse_channel(name)
        if kind.task_id is not None:
            self.tasks = self.tasks or {}
            key = kind.task_id.encode()
            return self.tasks.get(key) or self.tasks.setdefault(key, Channel(kind, self))
        for channel in self.whole:
            if channel.name == name:
                return channel
        channel = Channel(kind, self)
        self.whole += (channel,)
        return channel

    def drop(self, channel: Channel) -> None:
        """Forget a channel without listeners."""
        self.whole = tuple(one for one in self.whole if one is not channel)
        if self.tasks is not None and channel.task_id is not None:
            self.tasks.pop(channel.task_id, None)


def _deliver(listeners: Collection[Listener], broadcasts: list[Broadcast], traffic: Traffic) -> None:
    traffic.deliveries += len(listeners) * len(broadcasts)
    frames = _joined(broadcasts)
    excluded = _excluded(broadcasts)
    for listener in listeners:
        try:
            if excluded is not None and listener.socket_id in excluded:
                traffic.deliveries -= _deliver_others(listener, broadcasts)
            else:
                listener.deliver(broadcasts, frames)
        except Exception as exc:  # the other listeners must get their events; without an error this costs nothing
            listener.on_failure(exc)


def _excluded(broadcasts: list[Broadcast]) -> set[str] | None:
    """Return the socket ids that some of the broadcasts exclude; ``None`` if there are none, as with most."""
    excluded: set[str] | None = None
    for broadcast in broadcasts:
        if broadcast.excluded is not None:
            excluded = excluded or set()
            excluded.add(broadcast.excluded)
    return excluded


def _deliver_others(listener: Listener, broadcasts: list[Broadcast]) -> int:
    """Deliver without the broadcasts that exclude the listener. Return how many were left out."""
    others = [one for one in broadcasts if one.excluded != listener.socket_id]
    if others:
        listener.deliver(others, _joined(others))
    return len(broadcasts) - len(others)


def _joined(broadcasts: list[Broadcast]) -> bytes:
    """Return their frames in one piece."""
    return broadcasts[0].frame if len(broadcasts) == 1 else b"".join([one.frame for one in broadcasts])
