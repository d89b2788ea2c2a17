"""What this process tells Redis about itself: that it lives, and how many connections it has for which topic."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..channels import Topic
from ..config import Config
from ..store.command_link import CommandLink, LinkLost
from ..store.presence import NO_LEASE, Presence
from ..store.replies import read_renewal
from ..store.scripts import Script
from .loop import Loop

if TYPE_CHECKING:
    from .connection import Connection

logger = logging.getLogger("jobpush.gateway")


class Count:
    """How many connections of this process count for a topic; see :func:`~jobpush.store.presence.occupancy_topic`."""

    __slots__ = ("number", "topic")

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.number = 0


class Census:
    """
    The lease and the counts of one gateway process.

    What is said is absolute, so it may be said again whenever it is in doubt: after a reconnect, or when Redis
    came back empty.
    """

    def __init__(self, loop: Loop, link: CommandLink, config: Config) -> None:
        self._loop = loop
        self._link = link
        self._config = config
        self._presence = _new_presence(config)
        #: Empty until Redis has confirmed the lease.
        self._epoch = ""
        self._renewed_at = loop.now
        self._counts: dict[Topic, Count] = {}
        self._changed: set[Count] = set()
        #: Whether what has changed is no news to anybody but Redis.
        self._is_quiet = False
        #: Topics whose last connection was lost, and when that is to be told; the oldest first.
        self._vacant: dict[Count, float] = {}

    @staticmethod
    def scripts(config: Config) -> Sequence[Script]:
        """The scripts that will be called."""
        return _new_presence(config).scripts

    # -- connections ---------------------------------------------------------------------------------

    def enter(self, connection: Connection, topic: Topic) -> None:
        """A connection counts for a topic, if it does not already."""
        count = self._counts.get(topic)
        if count is None:
            count = self._counts[topic] = Count(topic)
        if count not in connection.counts:
            connection.counts += (count,)
            count.number += 1
            self._vacant.pop(count, None)
            self._changed.add(count)

    def leave(self, connection: Connection, topic: Topic) -> None:
        """A connection no longer counts for a topic, by its own wish; that is told at once."""
        for count in connection.counts:
            if count.topic == topic:
                connection.counts = tuple(one for one in connection.counts if one is not count)
                count.number -= 1
                self._changed.add(count)
                return

    def leave_all(self, connection: Connection) -> None:
        """A connection is lost; where it was the last one, ``Config.grace`` gives it time to come back."""
        counts, connection.counts = connection.counts, ()
        for count in counts:
            count.number -= 1
            if count.number:
                self._changed.add(count)
            else:
                self._vacant[count] = self._loop.now + self._config.grace

    # -- Redis ---------------------------------------------------------------------------------------

    def on_link_up(self) -> None:
        """What was on its way when the link broke may be lost: say everything again."""
        self._renew()
        self._changed.update(self._counts.values())

    def flush(self) -> None:
        """Tell the counts that have changed."""
        if not self._changed or not self._link.is_up:
            return
        changed, self._changed = self._changed, set()
        is_quiet, self._is_quiet = self._is_quiet, False
        for count in changed:
            call = self._presence.occupy(count.topic, count.number, is_quiet=is_quiet)
            self._link.run(call, partial(self._told, self._presence, count))
            if not count.number:
                self._counts.pop(count.topic, None)

    def tick(self) -> None:
        """Renew the lease in time, tell who has not come back, and take back what dead gateways have said."""
        now = self._loop.now
        for count, until in list(self._vacant.items()):
            if until > now:
                break
            del self._vacant[count]
            self._changed.add(count)
        if now - self._renewed_at >= self._config.lease / 3 and self._link.is_up:
            self._renew()
            self._reap()

    def end(self) -> None:
        """Tell that this process ends; those of its connections that come back by then were never away."""
        self._link.run(self._presence.renew(self._epoch, seconds=self._config.grace))

    # -- inside --------------------------------------------------------------------------------------

    def _told(self, presence: Presence, count: Count, reply: Any) -> None:
        if isinstance(reply, Exception):
            if not isinstance(reply, LinkLost):
                logger.warning("Redis refused a count: %s", reply)
        elif reply[0] == NO_LEASE:
            if presence is self._presence:
                self._begin_anew(is_quiet=False)
        elif reply[1]:
            self._loop.call_later(reply[1] / 1000, lambda: self._changed.add(count))

    def _renew(self) -> None:
        self._renewed_at = self._loop.now
        self._link.run(self._presence.renew(self._epoch), partial(self._renewed, self._presence))

    def _renewed(self, presence: Presence, reply: Any) -> None:
        if isinstance(reply, Exception) or presence is not self._presence:
            return
        renewal = read_renewal(reply)
        if renewal.is_held:
            self._epoch = renewal.epoch
        else:
            self._begin_anew(is_quiet=renewal.epoch != self._epoch)

    def _begin_anew(self, *, is_quiet: bool) -> None:
        """A lease that has ended does not come back: go on under another id, and say all that is true."""
        self._presence = _new_presence(self._config)
        self._epoch = ""
        self._is_quiet = is_quiet
        self._renew()
        self._changed.update(self._counts.values())

    def _reap(self) -> None:
        self._link.run(self._presence.reap(), self._found_dead)

    def _found_dead(self, reply: Any) -> None:
        if isinstance(reply, Exception) or not reply:
            return
        for call in self._presence.retractions(reply):
            self._link.run(call)
        self._reap()


def _new_presence(config: Config) -> Presence:
    return Presence(config, secrets.token_hex(8))
