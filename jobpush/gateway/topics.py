"""Which topics of Redis this process hears, and which connections hear what of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ..channels import PRIVATE_TASK, Topic
from ..protocol.actions import Join
from ..store.commands import stream_position
from .broadcast import Batch, Broadcast, Message, read_message

if TYPE_CHECKING:
    from .connection import Connection

logger = logging.getLogger("jobpush.gateway")


class CatchUp:
    """
    Connections of one channel that lack something: what was said before they came, or while Redis was away.

    What is said meanwhile is kept for them. Once they have the history up to ``position``, the live events
    up to there are to be dropped; with the first event beyond it they are like all others.

    Args:
        channel: What they hear.
        since: Stream id of the last event they have; empty for none.
        is_join: Whether they have just come, and are to be told that they have joined.
    """

    __slots__ = ("attempt", "batch", "channel", "connections", "is_asked", "is_join", "is_live", "position", "since")

    def __init__(self, channel: Channel, since: str, *, is_join: bool) -> None:
        self.channel = channel
        self.since = since
        self.is_join = is_join
        #: Each with what it asked for; ``None`` where it had joined before.
        self.connections: dict[Connection, Join | None] = {}
        self.batch = Batch()
        self.is_asked = False
        #: An answer to an earlier attempt than this is of no use.
        self.attempt = 0
        #: Once they have the history: up to which id.
        self.position: bytes | None = None
        #: Whether the live events have come beyond that.
        self.is_live = False

    def hear(self, broadcast: Broadcast) -> None:
        """Keep what is said while they catch up, unless the history held it."""
        if self.position is not None and broadcast.stream_id is not None:
            if stream_position(broadcast.stream_id) <= stream_position(self.position):
                return
            self.is_live = True
        self.batch.add(broadcast)

    def has_caught_up(self, position: bytes) -> None:
        """They have the history; drop of what was kept what that held."""
        self.position = position
        for broadcast in self.batch.take():
            self.hear(broadcast)

    def start_over(self) -> None:
        """The subscription broke: nothing that was kept is whole."""
        if self.position is not None:
            self.since, self.is_join = self.position.decode(), False
            self.connections = dict.fromkeys(self.connections)
        self.position = None
        self.batch.take()
        self.ask_again()

    def ask_again(self) -> None:
        """The answer will not come."""
        self.is_asked = False
        self.attempt += 1


class Channel:
    """A channel and its listeners in this process."""

    __slots__ = ("batch", "catch_ups", "connections", "name", "task_id", "topic", "wire_name")

    def __init__(self, name: str, topic: TopicState) -> None:
        self.name = name
        self.wire_name = name.encode()
        self.topic = topic
        #: Of the task whose events alone it carries; ``None``: everything that its topic says.
        self.task_id = name[len(PRIVATE_TASK) :].encode() if name.startswith(PRIVATE_TASK) else None
        #: Those who have everything up to now.
        self.connections: set[Connection] = set()
        self.catch_ups: list[CatchUp] = []
        #: What the present wake-up has brought.
        self.batch = Batch()

    def carries(self, message: Message) -> bool:
        """Whether a message of its topic is for it."""
        return self.task_id is None or self.task_id == message.task_id

    def begin_catch_up(self, connection: Connection, join: Join) -> CatchUp | None:
        """
        Let a connection join.

        Returns:
            The catch-up to be asked for; ``None`` if one for the same history is about to be asked.
        """
        since = join.since or ""
        for waiting in self.catch_ups:
            if waiting.is_join and waiting.since == since and not waiting.is_asked and waiting.position is None:
                waiting.connections[connection] = join
                return None
        catch_up = CatchUp(self, since, is_join=True)
        catch_up.connections[connection] = join
        self.catch_ups.append(catch_up)
        return catch_up

    def settle(self, catch_up: CatchUp) -> None:
        """Those who have the history hear what is live, as soon as the live events have come as far."""
        if catch_up not in self.catch_ups:
            return  # all of them have gone
        self.catch_ups.remove(catch_up)
        live, position = self.topic.position, catch_up.position
        if position is not None and live is not None and stream_position(live) >= stream_position(position):
            self.connections.update(catch_up.connections)
            return
        for other in self.catch_ups:
            if other.position == position:
                other.connections.update(catch_up.connections)
                return
        self.catch_ups.append(catch_up)

    def discard(self, connection: Connection) -> None:
        """A connection no longer hears the channel."""
        self.connections.discard(connection)
        for catch_up in self.catch_ups:
            catch_up.connections.pop(connection, None)
        # One that is asked for stays until its answer: the next to come needs a new one anyway.
        self.catch_ups = [one for one in self.catch_ups if one.connections]

    @property
    def is_idle(self) -> bool:
        """Whether nobody hears it."""
        return not self.connections and not self.catch_ups

    def flush(self) -> None:
        """Send what the wake-up has brought to all who hear the channel."""
        has_excluded = self.batch.has_excluded
        broadcasts = self.batch.take()
        if self.connections:
            _deliver(self.connections, broadcasts, has_excluded)
        for catch_up in list(self.catch_ups):
            if catch_up.position is not None and len(catch_up.batch):
                has_excluded = catch_up.batch.has_excluded
                _deliver(set(catch_up.connections), catch_up.batch.take(), has_excluded)
                if catch_up.is_live:
                    self.catch_ups.remove(catch_up)
                    self.connections.update(catch_up.connections)


def _deliver(connections: set[Connection], broadcasts: list[Broadcast], has_excluded: bool) -> None:
    frames = broadcasts[0].frame if len(broadcasts) == 1 else b"".join([one.frame for one in broadcasts])
    for connection in connections:
        try:
            if has_excluded:
                _deliver_others(connection, broadcasts)
            else:
                connection.deliver(broadcasts, frames)
        except Exception as exc:  # costs nothing where there is none, and the others must get theirs
            connection.on_failure(exc)


def _deliver_others(connection: Connection, broadcasts: list[Broadcast]) -> None:
    """Leave out what the connection is not to hear, since it was it that said it."""
    heard = [one for one in broadcasts if one.excluded != connection.socket_id]
    if heard:
        connection.deliver(heard, b"".join([one.frame for one in heard]))


class TopicState:
    """A topic that this process hears, or is about to."""

    __slots__ = ("is_confirmed", "key", "name", "position", "tasks", "whole")

    def __init__(self, name: Topic, key: bytes) -> None:
        self.name = name
        #: Its pub/sub channel in Redis.
        self.key = key
        #: Whether nothing of it is missed from now on.
        self.is_confirmed = False
        #: Stream id of its last live event since it was confirmed; ``None``: none yet.
        self.position: bytes | None = None
        #: Its channels: those that carry all of it, by name, and those of one task, by the task's id.
        self.whole: dict[str, Channel] = {}
        self.tasks: dict[bytes, Channel] = {}

    def channels(self) -> Iterator[Channel]:
        """All of its channels."""
        yield from self.whole.values()
        yield from self.tasks.values()

    def channel(self, name: str) -> Channel:
        """The channel of that name, new if there is none."""
        channel = self.tasks.get(name[len(PRIVATE_TASK) :].encode()) if name.startswith(PRIVATE_TASK) else None
        channel = channel or self.whole.get(name)
        if channel is None:
            channel = Channel(name, self)
            if channel.task_id is None:
                self.whole[name] = channel
            else:
                self.tasks[channel.task_id] = channel
        return channel

    def drop(self, channel: Channel) -> None:
        """Forget a channel that nobody hears."""
        if channel.task_id is None:
            self.whole.pop(channel.name, None)
        else:
            self.tasks.pop(channel.task_id, None)


class Topics:
    """
    All topics of this process.

    Args:
        key_of: Gives the pub/sub channel of a topic.
        subscribe: Begins to hear a pub/sub channel.
        unsubscribe: Ends it.
        linger: Seconds between the last listener's end and that.
    """

    def __init__(
        self,
        *,
        key_of: Callable[[Topic], str],
        subscribe: Callable[[bytes], None],
        unsubscribe: Callable[[bytes], None],
        linger: float,
    ) -> None:
        self._key_of = key_of
        self._subscribe = subscribe
        self._unsubscribe = unsubscribe
        self._linger = linger
        self._topics: dict[bytes, TopicState] = {}
        self._dirty: list[Channel] = []
        #: Topics without a listener, and since when; the oldest first.
        self._lingering: dict[TopicState, float] = {}

    def __iter__(self) -> Iterator[TopicState]:
        return iter(list(self._topics.values()))

    def get(self, key: bytes) -> TopicState | None:
        """The topic of a pub/sub channel, if it is heard."""
        return self._topics.get(key)

    def hear(self, name: Topic) -> TopicState:
        """The topic of that name; from now on it is heard."""
        key = self._key_of(name).encode()
        topic = self._topics.get(key)
        if topic is None:
            topic = self._topics[key] = TopicState(name, key)
            self._subscribe(key)
        self._lingering.pop(topic, None)
        return topic

    def release(self, channel: Channel, now: float) -> None:
        """Let go of a channel if nobody hears it any more, and of its topic a moment later."""
        if not channel.is_idle:
            return
        topic = channel.topic
        topic.drop(channel)
        if not topic.whole and not topic.tasks:
            self._lingering.setdefault(topic, now)

    def tick(self, now: float) -> None:
        """End the subscriptions that nobody has come back to."""
        for topic, since in list(self._lingering.items()):
            if now - since < self._linger:
                return
            del self._lingering[topic]
            del self._topics[topic.key]
            self._unsubscribe(topic.key)

    def on_message(self, key: bytes, payload: bytes) -> None:
        """A message of Redis: note it for all channels that carry it."""
        topic = self._topics.get(key)
        if topic is None:
            return
        try:
            message = read_message(payload)
        except ValueError:
            logger.warning("dropped a message on %r that jobpush did not write", key)
            return
        if message.stream_id is not None:
            topic.position = message.stream_id
        if message.stream_id is not None or not message.is_snapshot:  # else it is of a member of a workflow
            for channel in topic.whole.values():
                self._note(channel, message)
        if topic.tasks:
            of_task = topic.tasks.get(message.task_id)
            if of_task is not None:
                self._note(of_task, message)

    def flush(self) -> None:
        """Send what the wake-up has brought."""
        dirty, self._dirty = self._dirty, []
        for channel in dirty:
            channel.flush()

    def suspend(self) -> None:
        """The subscription is gone: from now on everybody lacks something."""
        self.flush()
        for topic in self._topics.values():
            for channel in topic.channels():
                for catch_up in channel.catch_ups:
                    catch_up.start_over()
                if channel.connections:
                    catch_up = CatchUp(channel, (topic.position or b"").decode(), is_join=False)
                    catch_up.connections = dict.fromkeys(channel.connections)
                    channel.connections = set()
                    channel.catch_ups.append(catch_up)
            topic.is_confirmed = False
            topic.position = None

    def _note(self, channel: Channel, message: Message) -> None:
        if not len(channel.batch):
            self._dirty.append(channel)
        broadcast = Broadcast(channel, message)
        channel.batch.add(broadcast)
        for catch_up in channel.catch_ups:
            catch_up.hear(broadcast)
