"""Reads the rosters of this process's presence channels from Redis."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...store.redis.command_connection import Commands, ConnectionLost
from ...store.replies import read_roster
from ..channel import Channel
from ..loop import Loop
from ..topics import Topics
from .lease import RETRY_AFTER, Lease
from .occupancy_reporter import OccupancyReporter
from .roster import LiveRoster

logger = logging.getLogger("jobpush.gateway")


@dataclass(eq=False)
class Rosters:
    """The rosters of all presence channels of this process."""

    loop: Loop
    commands: Commands
    lease: Lease
    topics: Topics
    reporter: OccupancyReporter

    def ask(self, channel: Channel, roster: LiveRoster) -> None:
        """Read the roster of a presence channel with a confirmed topic."""
        call = self.lease.presence.roster(channel.name)
        self.commands.run(call, partial(self._answered, channel, roster, roster.version))

    def on_held(self) -> None:
        """Ask again for rosters that got no answer."""
        for channel, roster in self._confirmed():
            if not roster.is_current:
                self.ask(channel, roster)

    def on_settled(self) -> None:
        """Find members of gateways that died while Redis was unreachable: no announcement arrives for them."""
        for channel, roster in self._confirmed():
            roster.suspend()
            self.ask(channel, roster)

    def _confirmed(self) -> Iterator[tuple[Channel, LiveRoster]]:
        """Iterate over rosters with a confirmed topic; the others are requested on confirmation."""
        for topic in self.topics:
            for channel in topic.whole:
                if topic.is_confirmed and channel.roster is not None:
                    yield channel, channel.roster

    def _answered(self, channel: Channel, roster: LiveRoster, version: int, reply: Any) -> None:
        if isinstance(reply, ConnectionLost) or roster.version != version:
            return
        if isinstance(reply, Exception):
            if not self.lease.refused(reply):
                logger.warning("Redis refused the roster of %s: %s", channel.name, reply)
            self.loop.call_later(RETRY_AFTER, lambda: self.ask(channel, roster))
            return
        found = read_roster(reply)
        own = (one for one in roster.members if self.reporter.has_published(channel.occupancy_topic, one))
        if any(user_id not in found.members for user_id in own):
            self.lease.doubt(self.lease.presence)  # Redis has lost data
        is_complete = self.lease.is_held and self.lease.is_settled
        for change in roster.take(found, is_complete=is_complete):
            channel.send_to_all(change.frame(channel.name))
