"""
How a connection subscribes to a channel without a gap and without duplicates.

Subscribe to the topic. When Redis confirms it, request the history and keep live events meanwhile. Then send the reply
to the subscription, the history, and the kept events that are not in the history. The same steps, without the reply,
bring listeners up to date after a broken connection to Redis.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..channels import Topic, parse_channel
from ..config import Config
from ..errors import MalformedMessage
from ..protocol.actions import Subscribe
from ..protocol.codes import SubscriptionLimitReached
from ..protocol.messages import resync
from ..store.hub_commands import HubCommands
from ..store.malformed import malformed
from ..store.messages import Message, is_frame, read_message
from ..store.redis.command_connection import Commands, ConnectionLost
from .broadcast import Broadcast
from .channel import CatchUp, Channel, TopicState
from .connection import Connection
from .counters import Traffic
from .history import History, replay_bound, resumed, snapshots, within_bound
from .loop import Loop
from .pending_calls import PendingCalls
from .presence.lease import RETRY_AFTER, Lease
from .presence.occupancy_reporter import OccupancyReporter
from .presence.roster import LiveRoster
from .presence.rosters import Rosters
from .topics import Topics

logger = logging.getLogger("jobpush.gateway")

#: The same text whether the task belongs to another user or to none, so that it reveals nothing.
_NOT_YOURS = "There is no such task of yours"
#: Histories requested from one server at a time: after a reconnect, renewals and live events must not wait behind all.
_MAX_IN_FLIGHT = 64


@dataclass(eq=False)
class Subscribing:
    """
    All subscriptions of this process that are under way.

    Args:
        server_of: Returns the Redis server that holds a topic.
        traffic: Counters of the process.
    """

    loop: Loop
    commands: Commands
    hub_commands: HubCommands
    topics: Topics
    lease: Lease
    reporter: OccupancyReporter
    rosters: Rosters
    config: Config
    server_of: Callable[[Topic], Hashable]
    traffic: Traffic
    #: Subscriptions to a task's channel without a reply about its owner.
    _unowned: list[tuple[Connection, Subscribe]] = field(default_factory=list, init=False)
    _ready: PendingCalls[CatchUp] = field(default_factory=lambda: PendingCalls(_MAX_IN_FLIGHT), init=False)
    _answers: list[tuple[CatchUp, int, list[Any]]] = field(default_factory=list, init=False)

    def begin(self, connection: Connection, request: Subscribe) -> None:
        """Subscribe a connection; it gets the answer later."""
        kind = parse_channel(request.channel)
        if kind.task_id is None:
            self._begin(connection, request, request.topic or kind.occupancy_topic)
        else:
            self.commands.call(
                self.hub_commands.owner(kind.task_id), partial(self._owner_answered, connection, request)
            )

    def on_confirmed(self, topic: TopicState) -> None:
        """Request the histories of a topic after Redis has confirmed its subscription."""
        for channel in topic.channels():
            for catch_up in channel.catch_ups:
                for connection, request in _connections(catch_up):
                    self._enter(connection, channel, request)
                self._get_ready(catch_up)

    def on_connected(self) -> None:
        """Repeat the requests that the broken connection to Redis did not answer."""
        unowned, self._unowned = self._unowned, []
        for connection, request in unowned:
            self.begin(connection, request)
        for topic in self.topics:
            if topic.is_confirmed:
                self.on_confirmed(topic)

    def leave(self, connection: Connection, name: str) -> None:
        """Unsubscribe a connection from a channel."""
        channel = next((one for one in connection.channels if one.name == name), None)
        if channel is not None:
            self._leave(connection, channel)

    def _leave(self, connection: Connection, channel: Channel) -> None:
        connection.channels = tuple(one for one in connection.channels if one is not channel)
        self._discard(connection, channel)
        user = connection.protocol.user
        topic = channel.occupancy_topic
        still_counts = any(one.occupancy_topic == topic for one in connection.channels)
        if not still_counts and not (user and topic == f"user:{user.id}"):
            self.reporter.leave(connection, topic)
        self.reporter.note_subscribed(topic)

    def leave_all(self, connection: Connection) -> None:
        """Unsubscribe a lost connection from all channels."""
        channels, connection.channels = connection.channels, ()
        for channel in channels:
            self._discard(connection, channel)
        self.reporter.leave_all(connection)

    def ask(self) -> None:
        """Request the histories that are due, a bounded number at once of each server."""
        for server, catch_up in self._ready.take(unless=self.reporter.is_behind):
            # Not while the subscription is broken: events that are published until its return would be lost.
            is_due = catch_up.channel.topic.is_confirmed and not catch_up.is_asked and catch_up.position is None
            if is_due and catch_up.listeners:
                self._ask(catch_up, server)

    def finish(self) -> None:
        """Send the histories that arrived in this wake-up; its live events have been sent before."""
        answers, self._answers = self._answers, []
        for catch_up, attempt, reply in answers:
            if not _is_expected(catch_up, attempt):
                continue
            try:
                self._finish(catch_up, *reply)
            except Exception as exc:
                for listener in catch_up.listeners:
                    listener.on_failure(exc)
            catch_up.channel.settle(catch_up)

    # -- inside --------------------------------------------------------------------------------------

    def _owner_answered(self, connection: Connection, request: Subscribe, reply: Any) -> None:
        if connection.is_closing:
            return
        if isinstance(reply, ConnectionLost):
            self._unowned.append((connection, request))
            return
        if isinstance(reply, Exception):
            self.loop.call_later(RETRY_AFTER, lambda: self.begin(connection, request))
            return
        user = connection.protocol.user
        if not isinstance(reply, bytes) or (request.owner_only and (user is None or user.id != reply.decode())):
            connection.refused(request.channel, _NOT_YOURS)
            return
        self._begin(connection, request, Topic(f"user:{reply.decode()}"))

    def _begin(self, connection: Connection, request: Subscribe, name: Topic) -> None:
        topic = self.topics.subscribe(name)
        channel = topic.channel(request.channel)
        connection.channels += (channel,)
        catch_up = channel.begin_catch_up(connection, request)
        if topic.is_confirmed:
            self._enter(connection, channel, request)
            self._get_ready(catch_up)

    def _get_ready(self, catch_up: CatchUp) -> None:
        self._ready.add(self.server_of(catch_up.channel.topic.name), catch_up)

    def _enter(self, connection: Connection, channel: Channel, request: Subscribe | None) -> None:
        """Count a connection once it receives the announcements about itself."""
        if request is not None:
            self.reporter.enter(connection, channel.occupancy_topic, request.member)
            self.reporter.note_subscribed(channel.occupancy_topic)

    def _discard(self, connection: Connection, channel: Channel) -> None:
        channel.discard(connection)
        self.topics.release(channel, self.loop.now)

    def _ask(self, catch_up: CatchUp, server: Hashable) -> None:
        channel = catch_up.channel
        catch_up.is_asked = True
        if channel.roster is not None:
            self.rosters.ask(channel, channel.roster)  # its answer comes before that of the history
        call = self.hub_commands.history(channel.name, channel.topic.name, catch_up.since)
        self._ready.begin(server)
        self.commands.run(call, partial(self._answered, catch_up, catch_up.attempt, server))

    def _answered(self, catch_up: CatchUp, attempt: int, server: Hashable, reply: Any) -> None:
        self._ready.end(server)
        if not _is_expected(catch_up, attempt):
            return
        if isinstance(reply, Exception):
            catch_up.expect_no_answer()
            if not isinstance(reply, ConnectionLost):
                if not self.lease.refused(reply):
                    logger.warning("Redis refused the history of %s: %s", catch_up.channel.name, reply)
                self.loop.call_later(RETRY_AFTER, lambda: self._get_ready(catch_up))
            return
        self._answers.append((catch_up, attempt, reply))

    def _finish(self, catch_up: CatchUp, position: bytes, is_resumed: int, payloads: list[bytes]) -> None:
        channel = catch_up.channel
        if channel.roster is not None:
            self._refuse_excess(catch_up)
            if not catch_up.listeners:
                return
            self._admit(catch_up, channel.roster)
        connections = _connections(catch_up)
        messages = malformed.read("messages of histories", payloads, _read, channel.name)
        broadcasts = [Broadcast(channel.wire_name, one) for one in messages if channel.carries(one)]
        catch_up.finish(position, broadcasts)  # not earlier: live events must not overtake the history
        if is_resumed:
            copies = max(1, sum(not connection.shares_frames for connection, _ in connections))
            kept = within_bound(broadcasts, replay_bound(self.traffic.replaying, copies))
            history = resumed(catch_up, kept, is_cut=len(kept) < len(broadcasts))
        else:
            history = snapshots(catch_up, within_bound(broadcasts), position)
        for connection, request in connections:
            try:
                _send(connection, request, history)
            except Exception as exc:
                connection.on_failure(exc)
        if not history.has_cached and parse_channel(channel.name).is_cache:
            self._report_cache_miss(catch_up)

    def _refuse_excess(self, catch_up: CatchUp) -> None:
        """Refuse listeners without a place in a presence channel; that reply precedes the history."""
        channel = catch_up.channel
        topic = channel.occupancy_topic
        for connection, request in _connections(catch_up):
            if request and request.member and self.reporter.is_refused(connection, topic):
                self._leave(connection, channel)
                message = f"A presence channel may have {self.config.max_members} members"
                connection.refused(channel.name, message, error=SubscriptionLimitReached)

    def _admit(self, catch_up: CatchUp, roster: LiveRoster) -> None:
        """Add the members of new listeners, even if Redis has not confirmed them."""
        for request in catch_up.listeners.values():
            if request and request.member and (change := roster.admit(request.member)):
                catch_up.channel.send_to_all(change.frame(catch_up.channel.name))

    def _report_cache_miss(self, catch_up: CatchUp) -> None:
        for _ in filter(None, catch_up.listeners.values()):
            if call := self.lease.presence.cache_miss(catch_up.channel.name):
                self.commands.run(call)


def _is_expected(catch_up: CatchUp, attempt: int) -> bool:
    """Return whether the reply to an attempt is still needed."""
    return catch_up.attempt == attempt and catch_up in catch_up.channel.catch_ups


def _read(payload: bytes) -> Message:
    """Read a message of a history."""
    message = read_message(payload)
    if not is_frame(message.members):
        raise MalformedMessage(payload)
    return message


def _connections(catch_up: CatchUp) -> list[tuple[Connection, Subscribe | None]]:
    """Return the listeners with their requests; :meth:`Subscribing.begin` added them, so they are connections."""
    return list(catch_up.listeners.items())  # type: ignore[arg-type]


def _send(connection: Connection, request: Subscribe | None, history: History) -> None:
    name, roster = history.channel.name, history.channel.roster
    if request is not None:
        members = None if roster is None else roster.members
        connection.perform(
            connection.protocol.subscribed(name, position=history.start, members=members, has_cached=history.has_cached)
        )
    if history.is_lost:
        connection.send(resync(name))
    connection.note_position(name, history.start.encode())
    for broadcast, stream_id in history.events:
        if broadcast.excluded is None or broadcast.excluded != connection.socket_id:
            connection.send_event(broadcast, stream_id)
    connection.count_replaying()
    connection.queue(history.live)
    if request is not None:
        connection.resume()
