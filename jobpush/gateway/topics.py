"""The topics that this process subscribes to in Redis, and the routing of their messages to channels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from ..channels import Topic
from ..store.malformed import malformed
from ..store.messages import COMMAND, Message, read_message
from ..store.redis.cluster_connections import ClusterPubSub
from ..store.redis.pubsub_connection import PubSubConnection
from .broadcast import Broadcast, Listener
from .channel import Channel, TopicState
from .counters import Traffic
from .presence.watched import Watched

#: Start of the members of an event; see :func:`jobpush.protocol.messages.event_members`.
_EVENT = b'"event":"'


@dataclass(eq=False)
class Topics:
    """
    All topics of this process.

    Args:
        pubsub: Subscribes in Redis.
        key_of: Returns the pub/sub channel of a topic, from a cache.
        on_command: Receives messages for gateways.
        on_watched: Receives announcements about a watched user.
        linger: Seconds from the end of the last listener to the end of the subscription.
        traffic: Counters of the process.
    """

    pubsub: PubSubConnection | ClusterPubSub
    key_of: Callable[[Topic], str]
    on_command: Callable[[bytes], None]
    on_watched: Callable[[Watched, bytes], None]
    linger: float
    traffic: Traffic
    _topics: dict[bytes, TopicState] = field(default_factory=dict, init=False)
    _dirty: list[Channel] = field(default_factory=list, init=False)
    #: Idle topics, and since when; the oldest first.
    _lingering: dict[TopicState, float] = field(default_factory=dict, init=False)

    def __len__(self) -> int:
        return len(self._topics)

    def __iter__(self) -> Iterator[TopicState]:
        return iter(list(self._topics.values()))

    def get(self, key: bytes) -> TopicState | None:
        """Return the topic of a pub/sub channel, if this process subscribes to it."""
        return self._topics.get(key)

    def subscribers(self, name: Topic) -> int:
        """Return the number of listeners of a topic's channels, except those of single tasks."""
        topic = self._topics.get(self.key_of(name).encode())
        if topic is None:
            return 0
        groups: list[Iterable[Listener]] = []
        for channel in topic.whole:
            groups += channel.listeners, *[one.listeners for one in channel.catch_ups]
        return len(set().union(*groups))

    def subscribe(self, name: Topic) -> TopicState:
        """Return the topic of that name, after subscribing to it if needed."""
        key = self.key_of(name).encode()
        topic = self._topics.get(key)
        if topic is None:
            topic = self._topics[key] = TopicState(name, key)
            self.pubsub.subscribe(key)
        self._lingering.pop(topic, None)
        return topic

    def release(self, channel: Channel, now: float) -> None:
        """Forget a channel if it has no listener, and its topic ``linger`` seconds later."""
        if channel.is_idle:
            channel.topic.drop(channel)
            self._release(channel.topic, now)

    def sign_out(self, name: Topic, now: float) -> None:
        """Stop counting a connection that was signed in as the user of a topic."""
        topic = self.subscribe(name)
        topic.signed_in -= 1
        self._release(topic, now)

    def watch(self, name: Topic, user_id: str) -> Watched:
        """Return the user of a topic that announces presence."""
        topic = self.subscribe(name)
        if topic.watched is None:
            topic.watched = Watched(user_id, name)
        topic.watched.is_confirmed = topic.is_confirmed
        return topic.watched

    def unwatch(self, watched: Watched, now: float) -> None:
        """Forget a user without watchers."""
        topic = self.subscribe(watched.topic)
        topic.watched = None
        self._release(topic, now)

    def _release(self, topic: TopicState, now: float) -> None:
        if topic.is_idle:
            self._lingering.setdefault(topic, now)

    def tick(self, now: float) -> None:
        """Unsubscribe from topics that stayed idle."""
        for topic, since in list(self._lingering.items()):
            if now - since < self.linger:
                return
            del self._lingering[topic]
            del self._topics[topic.key]
            self.pubsub.unsubscribe(topic.key)

    def on_message(self, key: bytes, payload: bytes) -> None:
        """Pass a message from Redis to all channels that carry it."""
        topic = self._topics.get(key)
        if topic is None:
            return
        try:
            self._distribute(topic, read_message(payload))
        except Exception as exc:  # another program may publish anything; it must not stop the hub
            malformed.report("messages", exc, key.decode(errors="replace"))

    def _distribute(self, topic: TopicState, message: Message) -> None:
        if message.task_id == COMMAND:
            self.on_command(message.members)
            return
        if topic.watched is not None:
            self.on_watched(topic.watched, message.members)
            return
        members = message.members
        is_text = members.isascii() or bool(
            members.decode()
        )  # browsers close a connection on a frame that is not UTF-8
        if not members.startswith(_EVENT) or not members.endswith(b'"') or not is_text:
            raise ValueError("the message is not an event")
        if message.stream_id is not None:
            topic.position = message.stream_id
        if not message.is_for_task_alone:
            for channel in topic.whole:
                if channel.roster is None or not message.seq:
                    self._note(channel, message)
                elif channel.roster.receive(message):
                    self._note_member(channel, message)
        if topic.tasks:
            of_task = topic.tasks.get(message.task_id)
            if of_task is not None:
                self._note(of_task, message)

    @property
    def first_waiting(self) -> Broadcast | None:
        """The first event that :meth:`flush` will send."""
        fresh = self._dirty[0].fresh if self._dirty else None
        return fresh[0] if fresh else None

    def flush(self) -> None:
        """Send the events of the wake-up."""
        dirty, self._dirty = self._dirty, []
        for channel in dirty:
            channel.flush(self.traffic)

    def suspend(self, keys: Iterable[bytes] | None = None) -> None:
        """Let the listeners of some or all pub/sub channels catch up, because the subscriptions in Redis are gone."""
        self.flush()
        topics = self._topics.values() if keys is None else filter(None, map(self._topics.get, keys))
        for topic in topics:
            for channel in topic.channels():
                channel.suspend()
            if topic.watched is not None:
                topic.watched.is_current = topic.watched.is_confirmed = False
            topic.is_confirmed = False
            topic.position = None

    def _note(self, channel: Channel, message: Message) -> None:
        broadcast, fresh = Broadcast(channel.wire_name, message), channel.fresh
        if fresh is None:
            fresh = self._begin(channel)
        if channel.floor is None or channel.is_beyond_floor(message):
            fresh.append(broadcast)
        for catch_up in channel.catch_ups:
            catch_up.receive(broadcast)

    def _note_member(self, channel: Channel, message: Message) -> None:
        broadcast, fresh = Broadcast(channel.wire_name, message), channel.fresh
        if fresh is None:
            fresh = self._begin(channel)
        fresh.append(broadcast)
        for catch_up in channel.catch_ups:
            catch_up.receive_member(broadcast)

    def _begin(self, channel: Channel) -> list[Broadcast]:
        """Have a channel flushed at the end of the wake-up."""
        fresh: list[Broadcast] = []
        channel.fresh = fresh
        self._dirty.append(channel)
        return fresh
