"""
How a connection begins to hear a channel without a gap and without hearing anything twice.

Subscribe to the topic; when Redis has confirmed that, ask for the history; keep what is live meanwhile; send
the answer to the join, the history, and of what was kept that which the history did not hold. The same, but
without the answer, brings those up to date who were connected while Redis was away.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ..channels import Topic, parse_channel
from ..config import Config
from ..protocol import messages
from ..protocol.actions import Subscribe
from ..protocol.codes import SubscriptionLimitReached
from ..store.hub_commands import NEVER, HubCommands
from ..store.messages import read_message
from ..store.redis.command_connection import CommandConnection, ConnectionLost
from .broadcast import Broadcast
from .listeners import CatchUp, Channel
from .loop import Loop
from .presence.lease import RETRY_AFTER, Lease
from .topics import Topics, TopicState

if TYPE_CHECKING:
    from .connection import Connection
    from .presence.occupancy_reporter import OccupancyReporter
    from .presence.rosters import Rosters

logger = logging.getLogger("jobpush.gateway")

#: The same words whether the task is another's or nobody's: who asks is not to learn which.
_NOT_YOURS = "There is no such task of yours"


class Subscribing:
    """All joins of this process that are under way."""

    def __init__(
        self,
        loop: Loop,
        link: CommandConnection,
        commands: HubCommands,
        topics: Topics,
        lease: Lease,
        census: OccupancyReporter,
        rosters: Rosters,
        config: Config,
    ) -> None:
        self._loop = loop
        self._link = link
        self._commands = commands
        self._topics = topics
        self._lease = lease
        self._census = census
        self._rosters = rosters
        self._config = config
        #: Connections that wait to learn whose task it is, while the link is away.
        self._unowned: list[tuple[Connection, Subscribe]] = []
        self._ready: list[CatchUp] = []
        self._answers: list[tuple[CatchUp, int, list[Any]]] = []

    def begin(self, connection: Connection, join: Subscribe) -> None:
        """Let a connection join; it is told later."""
        kind = parse_channel(join.channel)
        if kind.task_id is not None:
            self._link.call(self._commands.owner(kind.task_id), partial(self._owner_known, connection, join))
        else:
            self._begin(connection, join, kind.occupancy_topic)

    def on_confirmed(self, topic: TopicState) -> None:
        """Nothing of a topic is missed from now on."""
        for channel in topic.channels():
            for catch_up in channel.catch_ups:
                for connection, join in catch_up.connections.items():
                    self._enter(connection, channel, join)
            self._ready.extend(channel.catch_ups)

    def on_link_up(self) -> None:
        """What the link could not answer is asked again."""
        unowned, self._unowned = self._unowned, []
        for connection, join in unowned:
            self.begin(connection, join)
        for topic in self._topics:
            if topic.is_confirmed:
                self.on_confirmed(topic)

    def leave(self, connection: Connection, name: str) -> None:
        """A connection no longer hears a channel, by its own wish."""
        channel = next((one for one in connection.channels if one.name == name), None)
        if channel is not None:
            self._leave(connection, channel)

    def _leave(self, connection: Connection, channel: Channel) -> None:
        connection.channels = tuple(one for one in connection.channels if one is not channel)
        self._discard(connection, channel)
        user = connection.protocol.user
        topic = parse_channel(channel.name).occupancy_topic
        still_counts = any(parse_channel(one.name).occupancy_topic == topic for one in connection.channels)
        if not still_counts and not (user and topic == f"user:{user.id}"):
            self._census.leave(connection, topic)

    def leave_all(self, connection: Connection) -> None:
        """A connection is lost."""
        channels, connection.channels = connection.channels, ()
        for channel in channels:
            self._discard(connection, channel)
        self._census.leave_all(connection)

    def ask(self) -> None:
        """Ask Redis for the histories that the wake-up has made necessary."""
        if not self._ready:
            return
        ready, self._ready = self._ready, []
        for catch_up in ready:
            # Not if the subscription has broken in the meantime: what is said between would be lost.
            is_due = catch_up.channel.topic.is_confirmed and not catch_up.is_asked and catch_up.position is None
            if is_due and catch_up.connections:
                channel = catch_up.channel
                catch_up.is_asked = True
                if channel.roster is not None:
                    self._rosters.ask(channel, channel.roster)  # it is answered before the history is
                call = self._commands.history(channel.name, channel.topic.name, catch_up.since)
                self._link.run(call, partial(self._answered, catch_up, catch_up.attempt))

    def finish(self) -> None:
        """Send the histories that the wake-up has brought; its live events have been sent before."""
        answers, self._answers = self._answers, []
        for catch_up, attempt, reply in answers:
            if not _is_awaited(catch_up, attempt):
                continue
            try:
                self._finish(catch_up, *reply)
            except Exception as exc:
                for connection in catch_up.connections:
                    connection.on_failure(exc)
            catch_up.channel.settle(catch_up)

    # -- inside --------------------------------------------------------------------------------------

    def _owner_known(self, connection: Connection, join: Subscribe, reply: Any) -> None:
        if connection.is_closing:
            return
        if isinstance(reply, ConnectionLost):
            self._unowned.append((connection, join))
            return
        if isinstance(reply, Exception):
            self._loop.call_later(RETRY_AFTER, lambda: self.begin(connection, join))
            return
        user = connection.protocol.user
        if not isinstance(reply, bytes) or (join.owner_only and (user is None or user.id != reply.decode())):
            connection.refused(join.channel, _NOT_YOURS)
            return
        self._begin(connection, join, Topic(f"user:{reply.decode()}"))

    def _begin(self, connection: Connection, join: Subscribe, name: Topic) -> None:
        topic = self._topics.hear(name)
        channel = topic.channel(join.channel)
        connection.channels += (channel,)
        catch_up = channel.begin_catch_up(connection, join)
        if topic.is_confirmed:
            self._enter(connection, channel, join)
            self._ready.append(catch_up)

    def _enter(self, connection: Connection, channel: Channel, join: Subscribe | None) -> None:
        """Who joins counts as soon as it hears what the others are told of it."""
        if join is not None:
            self._census.enter(connection, parse_channel(channel.name).occupancy_topic, join.member)

    def _discard(self, connection: Connection, channel: Channel) -> None:
        channel.discard(connection)
        self._topics.release(channel, self._loop.now)

    def _answered(self, catch_up: CatchUp, attempt: int, reply: Any) -> None:
        if not _is_awaited(catch_up, attempt):
            return
        if isinstance(reply, Exception):
            catch_up.ask_again()
            if not isinstance(reply, ConnectionLost):
                if not self._lease.refused(reply):
                    logger.warning("Redis refused the history of %s: %s", catch_up.channel.name, reply)
                self._loop.call_later(RETRY_AFTER, lambda: self._ready.append(catch_up))
            return
        self._answers.append((catch_up, attempt, reply))

    def _finish(self, catch_up: CatchUp, position: bytes, resumed: int, payloads: list[bytes]) -> None:
        self._refuse_excess(catch_up)
        if not catch_up.connections:
            return
        self._admit(catch_up)
        channel = catch_up.channel
        messages_of_channel = [message for message in map(read_message, payloads) if channel.carries(message)]
        broadcasts = [Broadcast(channel, message) for message in messages_of_channel]
        catch_up.has_caught_up(position, broadcasts)  # not before this: what is live must not overtake the history
        history = _resumed(catch_up, broadcasts) if resumed else _snapshots(catch_up, broadcasts, position)
        for connection, join in list(catch_up.connections.items()):
            try:
                _send(connection, join, history)
            except Exception as exc:
                connection.on_failure(exc)
        if parse_channel(channel.name).is_cache and not history.has_cached:
            self._report_cache_miss(catch_up)

    def _refuse_excess(self, catch_up: CatchUp) -> None:
        """Send away those for whom a presence channel had no place; Redis has told it before it tells the history."""
        channel = catch_up.channel
        topic = parse_channel(channel.name).occupancy_topic
        for connection, join in list(catch_up.connections.items()):
            if join and join.member and self._census.is_refused(connection, topic):
                self._leave(connection, channel)
                message = f"A presence channel may have {self._config.max_members} members"
                connection.refused(channel.name, message, error=SubscriptionLimitReached)

    def _admit(self, catch_up: CatchUp) -> None:
        """Who joins is a member, even if Redis could not be told yet."""
        roster = catch_up.channel.roster
        if roster is None:
            return
        for join in catch_up.connections.values():
            if join and join.member and (change := roster.admit(join.member)):
                catch_up.channel.tell(change.frame(catch_up.channel.name))

    def _report_cache_miss(self, catch_up: CatchUp) -> None:
        for _ in filter(None, catch_up.connections.values()):
            if call := self._lease.presence.cache_miss(catch_up.channel.name):
                self._link.run(call)


def _is_awaited(catch_up: CatchUp, attempt: int) -> bool:
    """Whether the answer to an attempt is still of use."""
    return catch_up.attempt == attempt and catch_up in catch_up.channel.catch_ups


@dataclass(frozen=True, slots=True)
class _History:
    """
    What one catch-up brings, for each of its connections.

    Args:
        channel: What they hear.
        start: Stream id up to which a client has everything before the rest of this.
        is_lost: Whether events lie between what a client has and this.
        events: With the ``id`` that the client is to resume from behind each, ``None`` where it can't.
        live: What came live in the meantime.
        has_cached: Whether a client of a cache channel then has its last event.
    """

    channel: Channel
    start: str
    is_lost: bool
    events: list[tuple[Broadcast, bytes | None]]
    live: list[Broadcast]
    has_cached: bool


def _resumed(catch_up: CatchUp, missed: list[Broadcast]) -> _History:
    events: list[tuple[Broadcast, bytes | None]] = [(one, one.stream_id) for one in missed]
    return _History(catch_up.channel, catch_up.since, False, events, catch_up.batch.take(), True)


def _snapshots(catch_up: CatchUp, snapshots: list[Broadcast], position: bytes) -> _History:
    """
    A client that has only some of the snapshots can't resume, whatever their ids: events that are no task's lie
    between them. So the position comes with the last one, and before it there is none to resume from.
    """
    events = [(one, None if one is not snapshots[-1] else position) for one in snapshots]
    start = NEVER if snapshots else position.decode()
    return _History(catch_up.channel, start, bool(catch_up.since), events, catch_up.batch.take(), bool(snapshots))


def _send(connection: Connection, join: Subscribe | None, history: _History) -> None:
    name, roster = history.channel.name, history.channel.roster
    if join is not None:
        members = None if roster is None else roster.members
        connection.perform(
            connection.protocol.joined(name, position=history.start, members=members, has_cached=history.has_cached)
        )
    if history.is_lost:
        connection.send(messages.resync(name))
    connection.note_position(name, history.start.encode())
    for broadcast, stream_id in history.events:
        if broadcast.excluded is None or broadcast.excluded != connection.socket_id:
            connection.send_event(broadcast, stream_id)
    connection.queue(history.live)
    if join is not None:
        connection.go_on()
