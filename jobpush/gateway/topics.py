"""Which topics of Redis this process hears, and which channels they feed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from ..channels import Topic, parse_channel
from ..store.messages import COMMAND, Message, read_message
from .broadcast import Broadcast
from .listeners import Channel, Tally
from .presence.watchlists import Watched

logger = logging.getLogger("jobpush.gateway")


class TopicState:
    """A topic that this process hears, or is about to."""

    # Most are one user's, with one channel and one connection: what may stay empty is None.
    __slots__ = ("is_confirmed", "key", "name", "position", "signed_in", "tasks", "watched", "whole")

    def __init__(self, name: Topic, key: bytes) -> None:
        self.name = name
        #: Its pub/sub channel in Redis.
        self.key = key
        #: Whether nothing of it is missed from now on.
        self.is_confirmed = False
        #: Stream id of its last live event since it was confirmed; ``None``: none yet.
        self.position: bytes | None = None
        #: Connections that are signed in as its user, whatever they hear: commands about them come this way.
        self.signed_in = 0
        #: The user of whom it tells; such a topic has no channels.
        self.watched: Watched | None = None
        #: Its channels: those that carry all of it, which are two at most, and those of one task, by the task's id.
        self.whole: tuple[Channel, ...] = ()
        self.tasks: dict[bytes, Channel] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nobody needs it."""
        return not self.whole and not self.tasks and not self.signed_in and self.watched is None

    def channels(self) -> Iterator[Channel]:
        """All of its channels."""
        yield from self.whole
        yield from (self.tasks or {}).values()

    def channel(self, name: str) -> Channel:
        """The channel of that name, new if there is none."""
        kind = parse_channel(name)
        if kind.task_id is not None:
            self.tasks = self.tasks or {}
            task_id = kind.task_id.encode()
            return self.tasks.get(task_id) or self.tasks.setdefault(task_id, Channel(name, self))
        channel = next((one for one in self.whole if one.name == name), None)
        if channel is None:
            channel = Channel(name, self)
            self.whole += (channel,)
        return channel

    def drop(self, channel: Channel) -> None:
        """Forget a channel that nobody hears."""
        self.whole = tuple(one for one in self.whole if one is not channel)
        if self.tasks is not None and channel.task_id is not None:
            self.tasks.pop(channel.task_id, None)


class Topics:
    """
    All topics of this process.

    Args:
        key_of: Gives the pub/sub channel of a topic.
        subscribe: Begins to hear a pub/sub channel.
        unsubscribe: Ends it.
        on_command: Gets what is said to gateways, not to browsers.
        on_watched: Gets what is said of a watched user.
        linger: Seconds between the last listener's end and that.
    """

    def __init__(
        self,
        *,
        key_of: Callable[[Topic], str],
        subscribe: Callable[[bytes], None],
        unsubscribe: Callable[[bytes], None],
        on_command: Callable[[bytes], None],
        on_watched: Callable[[Watched, bytes], None],
        linger: float,
    ) -> None:
        self._key_of = key_of
        self._subscribe = subscribe
        self._unsubscribe = unsubscribe
        self._on_command = on_command
        self._on_watched = on_watched
        self._linger = linger
        self._topics: dict[bytes, TopicState] = {}
        self._dirty: list[Channel] = []
        self.tally = Tally()
        #: Topics without a listener, and since when; the oldest first.
        self._lingering: dict[TopicState, float] = {}

    def __len__(self) -> int:
        return len(self._topics)

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
        channel.topic.drop(channel)
        self._release(channel.topic, now)

    def sign_in(self, name: Topic) -> None:
        """A connection has signed in as the user of this topic."""
        self.hear(name).signed_in += 1

    def sign_out(self, name: Topic, now: float) -> None:
        """It is gone."""
        topic = self.hear(name)
        topic.signed_in -= 1
        self._release(topic, now)

    def watch(self, name: Topic, user_id: str) -> Watched:
        """The user of whom this topic tells."""
        topic = self.hear(name)
        if topic.watched is None:
            topic.watched = Watched(user_id, topic)
        return topic.watched

    def unwatch(self, topic: TopicState, now: float) -> None:
        """Nobody watches that user any more."""
        topic.watched = None
        self._release(topic, now)

    def _release(self, topic: TopicState, now: float) -> None:
        if topic.is_idle:
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
        if message.task_id == COMMAND:
            self._on_command(message.members)
            return
        if topic.watched is not None:
            self._on_watched(topic.watched, message.members)
            return
        if message.stream_id is not None:
            topic.position = message.stream_id
        if not message.is_for_task_alone:
            for channel in topic.whole:
                if channel.roster is None or not message.seq:
                    self._note(channel, message)
                elif channel.roster.hear(message):
                    self._note_member(channel, message)
        if topic.tasks:
            of_task = topic.tasks.get(message.task_id)
            if of_task is not None:
                self._note(of_task, message)

    @property
    def first_waiting(self) -> Broadcast | None:
        """The oldest event that the wake-up has brought and that :meth:`flush` is to send."""
        fresh = self._dirty[0].fresh if self._dirty else None
        return fresh[0] if fresh else None

    def flush(self) -> None:
        """Send what the wake-up has brought."""
        dirty, self._dirty = self._dirty, []
        for channel in dirty:
            channel.flush(self.tally)

    def suspend(self) -> None:
        """The subscription is gone: from now on everybody lacks something."""
        self.flush()
        for topic in self._topics.values():
            for channel in topic.channels():
                channel.suspend()
            if topic.watched is not None:
                topic.watched.is_current = False
            topic.is_confirmed = False
            topic.position = None

    def _note(self, channel: Channel, message: Message) -> None:
        broadcast, fresh = Broadcast(channel, message), channel.fresh
        if fresh is None:
            fresh = self._begin(channel)
        if channel.floor is None or channel.is_beyond_floor(message):
            fresh.append(broadcast)
        for catch_up in channel.catch_ups:
            catch_up.hear(broadcast)

    def _note_member(self, channel: Channel, message: Message) -> None:
        broadcast, fresh = Broadcast(channel, message), channel.fresh
        if fresh is None:
            fresh = self._begin(channel)
        fresh.append(broadcast)
        for catch_up in channel.catch_ups:
            catch_up.hear_of_member(broadcast)

    def _begin(self, channel: Channel) -> list[Broadcast]:
        """Let a channel have something to say at the end of the wake-up."""
        fresh: list[Broadcast] = []
        channel.fresh = fresh
        self._dirty.append(channel)
        return fresh
