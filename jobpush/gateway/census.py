"""What this process tells Redis about itself: that it lives, and how many connections hear which topic."""

from __future__ import annotations

import secrets
import time

from ..store.commands import COUNTS_TTL, HubCommands
from ..store.link import CommandLink
from .loop import Loop
from .topics import Topics, TopicState


class Census:
    """
    The lease and the counts of one gateway process.

    Counts of a gateway whose lease has ended are counted by nobody, so one that was killed leaves no ghosts.

    Args:
        lease: Seconds that a lease lasts; it is renewed three times as often.
    """

    def __init__(self, loop: Loop, link: CommandLink, commands: HubCommands, topics: Topics, lease: float) -> None:
        self.gateway_id = secrets.token_hex(8)
        self._loop = loop
        self._link = link
        self._commands = commands
        self._topics = topics
        self._lease = lease
        self._changed: set[TopicState] = set()
        self._renewed_at = self._repeated_at = loop.now

    def add(self, topic: TopicState) -> None:
        """One connection more hears a topic."""
        topic.listeners += 1
        self._changed.add(topic)

    def remove(self, topic: TopicState) -> None:
        """One connection less hears a topic."""
        topic.listeners -= 1
        self._changed.add(topic)

    def flush(self) -> None:
        """Tell the counts that have changed."""
        if not self._changed or not self._link.is_up:
            return
        changed, self._changed = self._changed, set()
        for topic in changed:
            for command in self._commands.count(self.gateway_id, topic.name, topic.listeners):
                self._link.call(command)

    def repeat(self) -> None:
        """Tell everything: Redis may have come back without it."""
        self._renew()
        self._repeated_at = self._loop.now
        self._changed.update(topic for topic in self._topics if topic.listeners)

    def tick(self) -> None:
        """Renew the lease in time, and now and then the counts, which expire."""
        now = self._loop.now
        if now - self._renewed_at >= self._lease / 3 and self._link.is_up:
            self._renew()
        if now - self._repeated_at >= COUNTS_TTL / 2:
            self.repeat()

    def end(self) -> None:
        """Tell that this process is gone; the counts of its connections were taken back with them."""
        self.flush()
        self._link.call(self._commands.end_lease(self.gateway_id))

    def _renew(self) -> None:
        self._renewed_at = self._loop.now
        for command in self._commands.renew_lease(self.gateway_id, time.time() + self._lease):
            self._link.call(command)
