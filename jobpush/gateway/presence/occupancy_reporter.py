"""Reports to Redis how many connections of this process a topic has, and which members they add."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ...channels import Topic
from ...config import Config
from ...protocol.actions import Member
from ...store.presence import FULL, NO_LEASE, Presence
from ...store.redis.command_connection import Commands, ConnectionLost
from ...store.scripts import Call
from ..connection import Connection
from ..loop import Loop
from ..pending_calls import PendingCalls
from .lease import Lease
from .occupancy import Occupancy

logger = logging.getLogger("jobpush.gateway")

#: Reports sent to one server at a time: after a reconnect, renewals and live events must not wait behind all.
_MAX_IN_FLIGHT = 256


@dataclass(eq=False)
class OccupancyReporter:
    """
    All counts of one gateway process.

    Reports are absolute, so they are repeated whenever they are in doubt: after a reconnect, or when Redis has lost
    data.

    Args:
        subscribed: Returns the number of connections that are subscribed to the channels of a user's topic.
        server_of: Returns the Redis server that holds a topic.
    """

    loop: Loop
    commands: Commands
    lease: Lease
    config: Config
    subscribed: Callable[[Topic], int]
    server_of: Callable[[Topic], Hashable]
    _counts: dict[tuple[Topic, str | None], Occupancy] = field(default_factory=dict, init=False)
    #: Counts to be reported, in the order of the changes.
    _changed: PendingCalls[Occupancy] = field(default_factory=lambda: PendingCalls(_MAX_IN_FLIGHT), init=False)
    #: Counts without a connection since the last one was lost, and when to report that; the oldest first.
    _vacant: dict[Occupancy, float] = field(default_factory=dict, init=False)

    # -- connections ---------------------------------------------------------------------------------

    def enter(self, connection: Connection, topic: Topic, member: Member | None = None) -> None:
        """Count a connection for a topic, unless it already counts, and add its member."""
        self._enter(connection, topic, None)
        if member is not None:
            self._enter(connection, topic, member)

    def note_subscribed(self, topic: Topic) -> None:
        """Report a user's connections again if the number subscribed to the user's channel has changed."""
        count = self._counts.get((topic, None)) if topic.startswith("user:") else None
        if count is not None and self.subscribed(topic) != count.subscribed:
            self._add(count)

    def leave(self, connection: Connection, topic: Topic) -> None:
        """Stop counting a connection that has unsubscribed; reported at once."""
        left = [count for count in connection.counts if count.topic == topic]
        connection.counts = tuple(count for count in connection.counts if count not in left)
        self._leave(left)

    def leave_all(self, connection: Connection) -> None:
        """
        Stop counting a lost connection; if it was the last one, ``Config.grace`` gives its client time to reconnect.
        """
        if not self.config.grace:
            self.dismiss(connection)
            return
        counts, connection.counts = connection.counts, ()
        for count in reversed(counts):
            count.number -= 1
            if count.number:
                self._note(count)
            else:
                count.is_lost = True
                self._vacant[count] = self.loop.now + self.config.grace

    def is_refused(self, connection: Connection, topic: Topic) -> bool:
        """Return whether the channel had no place for a connection's member."""
        return any(count.is_refused for count in connection.counts if count.topic == topic)

    def has_published(self, topic: Topic, user_id: str) -> bool:
        """Return whether Redis has confirmed that this process has a member of a presence channel."""
        count = self._counts.get((topic, user_id))
        return count is not None and count.is_published and count.number > 0

    def dismiss(self, connection: Connection) -> None:
        """Stop counting a connection that will not reconnect; reported at once."""
        counts, connection.counts = connection.counts, ()
        self._leave(counts)

    # -- Redis ---------------------------------------------------------------------------------------

    def is_behind(self, server: Hashable) -> bool:
        """Return whether reports to a server wait for the answers to others."""
        return self._changed.is_behind(server)

    def republish(self, *, has_lost_data: bool) -> None:
        """Report all counts again; without announcements if Redis has lost them."""
        for count in self._counts.values():
            count.is_quiet = has_lost_data and count.is_published
            self._add(count)

    def flush(self) -> None:
        """Report the changed counts, while the lease is held."""
        for server, count in self._changed.take():
            is_quiet, count.is_quiet = count.is_quiet, False
            number = count.number or int(count in self._vacant)  # a vacant count is reported after its grace
            if not number and not count.may_be_known:
                self._forget(count)
                continue
            self._report(server, count, number, is_quiet=is_quiet and number > 0)

    def tick(self) -> None:
        """Report connections that were not restored in time. Call about once a second."""
        for count, until in list(self._vacant.items()):
            if until > self.loop.now:
                return
            del self._vacant[count]
            self._note(count)

    def retract(self, on_answered: Callable[[], None]) -> None:
        """Retract what other gateways report as well, since their connections have moved there already."""
        for count in [count for count in self._changed if count in self._vacant]:
            self._changed.discard(count)  # a report after the retraction would be wrong until the lease ends
        calls = self.lease.presence.retract_shared(key for key, count in self._counts.items() if count.may_be_known)
        left = len(calls)

        def answered(reply: Any) -> None:
            nonlocal left
            left -= 1
            if not left:
                on_answered()

        for call in calls:
            self.commands.run(call, answered)
        if not calls:
            on_answered()

    # -- inside --------------------------------------------------------------------------------------

    def _enter(self, connection: Connection, topic: Topic, member: Member | None) -> None:
        key = topic, None if member is None else member.user_id
        count = self._counts.get(key)
        if count is None:
            count = self._counts[key] = Occupancy(topic, member)
        elif not count.number and count.member != member:  # returned with another user_info
            if self._vacant.pop(count, None) is not None:
                self._note(count)
            count = self._counts[key] = Occupancy(topic, member)
        if count not in connection.counts:
            connection.counts += (count,)
            count.number += 1
            count.is_lost = False
            self._vacant.pop(count, None)
            self._add(count)  # a channel is reported before its members

    def _leave(self, counts: list[Occupancy] | tuple[Occupancy, ...]) -> None:
        for count in reversed(counts):
            count.number -= 1
            self._note(count)

    def _note(self, count: Occupancy) -> None:
        """Report a count after all others: members are removed before the channel is vacated."""
        self._changed.discard(count)
        self._add(count)

    def _add(self, count: Occupancy, *, is_first: bool = False) -> None:
        self._changed.add(self.server_of(count.topic), count, is_first=is_first)

    def _forget(self, count: Occupancy) -> None:
        """Forget a confirmed count of 0, unless it has changed again or another one has replaced it."""
        is_over = not count.number and count not in self._vacant and count not in self._changed
        if is_over and self._counts.get(count.key) is count:
            del self._counts[count.key]

    def _report(self, server: Hashable, count: Occupancy, number: int, *, is_quiet: bool) -> None:
        presence = self.lease.presence
        count.may_be_known |= self.commands.is_up
        count.is_admitted &= number > 0
        count.times += 1
        self._changed.begin(server)
        if count.topic.startswith("user:"):
            count.subscribed = self.subscribed(count.topic)
        call = _call(presence, count, number, is_quiet=is_quiet)
        self.commands.run(call, partial(self._answered, server, presence, count, number, count.times))

    def _answered(
        self, server: Hashable, presence: Presence, count: Occupancy, number: int, times: int, reply: Any
    ) -> None:
        self._changed.end(server)
        if isinstance(reply, Exception):
            is_repeated = isinstance(reply, ConnectionLost) or self.lease.refused(reply)
            if not is_repeated:
                logger.warning("Redis refused the count of %s: %s", count.topic, reply)
            elif not number and self._counts.get(count.key) is not count:
                self._add(count, is_first=True)  # repeated before the count that replaced it
            return
        if times < count.answered:  # the cluster redirected an older report, so that it overtook this one
            self._note(self._counts.get(count.key, count))
            return
        count.answered = times
        result, wait = reply if isinstance(reply, list) else (reply, 0)
        count.is_refused = result == FULL
        if count.is_refused:
            count.is_published = count.is_admitted = False
        elif result == NO_LEASE:
            self.lease.doubt(presence)
        elif times == count.times:
            count.is_admitted = count.is_published = number > 0
            if not number:
                self._forget(count)
        if wait:
            # Another count may have replaced it by then.
            self.loop.call_later(wait / 1000, lambda: self._note(self._counts.get(count.key, count)))


def _call(presence: Presence, count: Occupancy, number: int, *, is_quiet: bool) -> Call:
    """Return the call that reports a number."""
    if count.member is None:
        subscribed = count.subscribed if count.topic.startswith("user:") else None
        is_lost = count.is_lost
        return presence.occupy(count.topic, number, subscribed=subscribed, is_quiet=is_quiet, is_lost=is_lost)
    channel, member = count.topic.partition(":")[2], count.member
    if not number:
        return presence.leave(channel, member.user_id)
    return presence.join(channel, member.user_id, member.user_info, is_quiet=is_quiet, is_new=not count.is_admitted)
