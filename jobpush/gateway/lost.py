"""How a gateway finds workers that died, and says of their tasks that they are LOST."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

from ..config import Config
from ..store.command_link import CommandLink
from ..store.leases import WorkerLeases
from ..store.scripts import Script
from .loop import Loop

logger = logging.getLogger("jobpush.gateway")


class LostTasks:
    """
    Looks after the leases of workers. Every gateway does; what is told is told once, see :class:`WorkerLeases`.

    A worker that can't reach Redis is not dead. So a lease that has ended counts only for a gateway that has itself
    been answered by Redis, without a gap, for the whole of ``Config.lost_after``: in that time a living worker has
    renewed it.
    """

    def __init__(self, loop: Loop, link: CommandLink, config: Config) -> None:
        self._loop = loop
        self._link = link
        self._leases = WorkerLeases(config)
        self._lost_after = config.lost_after
        #: The longest time between two answers that is no gap: a worker's lease outlives it.
        self._longest_gap = config.lost_after / 3
        self._answered_at = -math.inf
        self._reached_since = loop.now
        #: Tasks that were lost.
        self.count = 0

    @staticmethod
    def scripts(config: Config) -> Sequence[Script]:
        """The scripts that will be called."""
        return WorkerLeases(config).scripts

    def start(self) -> None:
        """Begin to look, for as long as the loop runs."""
        self._loop.call_later(self._leases.pause, self.start)
        if self._link.is_up:
            self._ask()

    def on_link_up(self) -> None:
        """Nobody knows how long Redis was away, and whether it lost what was said meanwhile."""
        self._answered_at = -math.inf

    def _ask(self) -> None:
        self._link.run(self._leases.find_dead(), self._found)

    def _found(self, reply: Any) -> None:
        if isinstance(reply, Exception):
            return
        now = self._loop.now
        if now - self._answered_at > self._longest_gap:
            self._reached_since = now
        self._answered_at = now
        if reply and now - self._reached_since >= self._lost_after:
            self._lose(reply)

    def _lose(self, reply: Sequence[Any]) -> None:
        for calls, forget in self._leases.losses(reply):
            self.count += len(calls)
            logger.warning("a worker died; %d tasks that it had are lost", len(calls))
            for call in calls:
                self._link.run(call)
            self._link.call(forget)
        self._ask()
