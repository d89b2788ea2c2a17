"""What this process tells Redis of its connections: how many hear a topic, and whom they make a member."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from ...channels import Topic
from ...config import Config
from ...protocol.actions import Member
from ...store.presence import FULL, NO_LEASE, Presence
from ...store.redis.command_connection import CommandConnection, ConnectionLost
from ...store.scripts import Call
from ..loop import Loop
from .lease import Lease

if TYPE_CHECKING:
    from ..connection import Connection

logger = logging.getLogger("jobpush.gateway")


class Occupancy:
    """
    How many connections of this process count for something that the others are told of.

    Args:
        topic: As :attr:`jobpush.channels.ChannelKind.occupancy_topic` gives it.
        member: Whom they make a member of the topic's presence channel; ``None``: they count as connections.
    """

    __slots__ = ("has_been_told", "is_let_in", "is_refused", "may_be_known", "member", "number", "times", "topic")

    def __init__(self, topic: Topic, member: Member | None) -> None:
        self.topic = topic
        self.member = member
        self.number = 0
        #: How often Redis has been told of it; only the answer to the last time counts.
        self.times = 0
        #: Whether Redis has answered that it was told that there are any.
        self.has_been_told = False
        #: Whether it was told so, and has perhaps not answered.
        self.may_be_known = False
        #: Whether Redis has answered that the member has a place, which is then not asked for again.
        self.is_let_in = False
        #: Whether its channel had no place for the member.
        self.is_refused = False

    @property
    def key(self) -> tuple[Topic, str | None]:
        """What no other count of this process has."""
        return self.topic, None if self.member is None else self.member.user_id

    def call(self, presence: Presence, number: int, *, is_quiet: bool) -> Call:
        """What tells Redis."""
        if self.member is None:
            return presence.occupy(self.topic, number, is_quiet=is_quiet)
        channel = self.topic.partition(":")[2]
        if not number:
            return presence.leave(channel, self.member.user_id)
        user_id, user_info = self.member.user_id, self.member.user_info
        return presence.join(channel, user_id, user_info, is_quiet=is_quiet, is_new=not self.is_let_in)


class OccupancyReporter:
    """
    All counts of one gateway process.

    What is said is absolute, so it may be said again whenever it is in doubt: after a reconnect, or when Redis
    came back empty.
    """

    def __init__(self, loop: Loop, link: CommandConnection, lease: Lease, config: Config) -> None:
        self._loop = loop
        self._link = link
        self._lease = lease
        self._config = config
        self._counts: dict[tuple[Topic, str | None], Occupancy] = {}
        #: What is to be told, in the order in which it happened; and whether it is no news to anybody but Redis.
        self._changed: dict[Occupancy, bool] = {}
        #: Counts whose last connection was lost, and when that is to be told; the oldest first.
        self._vacant: dict[Occupancy, float] = {}

    # -- connections ---------------------------------------------------------------------------------

    def enter(self, connection: Connection, topic: Topic, member: Member | None = None) -> None:
        """A connection counts for a topic, if it does not already; and makes its user a member."""
        self._enter(connection, Occupancy(topic, None))
        if member is not None:
            self._enter(connection, Occupancy(topic, member))

    def leave(self, connection: Connection, topic: Topic) -> None:
        """A connection no longer counts for a topic, by its own wish; that is told at once."""
        left = [count for count in connection.counts if count.topic == topic]
        connection.counts = tuple(count for count in connection.counts if count not in left)
        self._leave(left)

    def leave_all(self, connection: Connection) -> None:
        """A connection is lost; where it was the last one, ``Config.grace`` gives it time to come back."""
        counts, connection.counts = connection.counts, ()
        for count in reversed(counts):
            count.number -= 1
            if count.number:
                self._note(count)
            else:
                self._vacant[count] = self._loop.now + self._config.grace

    def is_refused(self, connection: Connection, topic: Topic) -> bool:
        """Whether a connection's user is no member, since there was no place for one more."""
        return any(count.is_refused for count in connection.counts if count.topic == topic)

    def dismiss(self, connection: Connection) -> None:
        """A connection is to be closed and not to come back; that is told at once."""
        counts, connection.counts = connection.counts, ()
        self._leave(counts)

    # -- Redis ---------------------------------------------------------------------------------------

    def say_again(self, *, has_lost_data: bool) -> None:
        """Tell all that is true; quietly what was told before, if it is Redis that has forgotten it."""
        for count in self._counts.values():
            self._changed[count] = has_lost_data and count.has_been_told

    def flush(self) -> None:
        """Tell the counts that have changed; while the lease is held."""
        if not self._changed:
            return
        changed, self._changed = self._changed, {}
        presence = self._lease.presence
        for count, is_quiet in changed.items():
            number = count.number or int(count in self._vacant)  # during the grace nobody has gone
            if not number and not count.may_be_known:
                self._forget(count)
                continue
            call = count.call(presence, number, is_quiet=is_quiet)
            count.may_be_known |= self._link.is_up
            count.is_let_in &= number > 0
            count.times += 1
            self._link.run(call, partial(self._told, presence, count, number, count.times))

    def tick(self) -> None:
        """Tell who has not come back. Call about once a second."""
        for count, until in list(self._vacant.items()):
            if until > self._loop.now:
                return
            del self._vacant[count]
            self._note(count)

    # -- inside --------------------------------------------------------------------------------------

    def _enter(self, connection: Connection, new: Occupancy) -> None:
        count = self._counts.setdefault(new.key, new)
        if not count.number and count.member != new.member:  # who comes back is not as before
            if self._vacant.pop(count, None) is not None:
                self._note(count)
            count = self._counts[new.key] = new
        if count not in connection.counts:
            connection.counts += (count,)
            count.number += 1
            self._vacant.pop(count, None)
            self._changed.setdefault(count, False)  # the channel is there before its members

    def _leave(self, counts: list[Occupancy] | tuple[Occupancy, ...]) -> None:
        for count in reversed(counts):
            count.number -= 1
            self._note(count)

    def _note(self, count: Occupancy) -> None:
        """Tell of a count behind all others: members are gone before the channel is vacated."""
        self._changed[count] = self._changed.pop(count, False)

    def _forget(self, count: Occupancy) -> None:
        """Nobody counts, and Redis knows; unless somebody has come again, or another count has taken its place."""
        is_over = not count.number and count not in self._vacant and count not in self._changed
        if is_over and self._counts.get(count.key) is count:
            del self._counts[count.key]

    def _told(self, presence: Presence, count: Occupancy, number: int, times: int, reply: Any) -> None:
        if isinstance(reply, Exception):
            is_said_again = isinstance(reply, ConnectionLost) or self._lease.refused(reply)
            if not is_said_again:
                logger.warning("Redis refused a count: %s", reply)
            elif not number and self._counts.get(count.key) is not count:
                self._changed = {count: False, **self._changed}  # this too, and before what has taken its place
            return
        result, wait = reply if isinstance(reply, list) else (reply, 0)
        count.is_refused = result == FULL
        if count.is_refused:
            count.has_been_told = count.is_let_in = False
        elif result == NO_LEASE:
            self._lease.doubt(presence)
        elif times == count.times:
            count.is_let_in = count.has_been_told = number > 0
            if not number:
                self._forget(count)
        if wait:
            # Another count may have taken its place until then.
            self._loop.call_later(wait / 1000, lambda: self._note(self._counts.get(count.key, count)))
