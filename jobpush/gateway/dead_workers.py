"""How a gateway finds workers that died, and says of their tasks that they are LOST."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ..config import Config
from ..store.redis.command_connection import CommandConnection, ConnectionLost
from ..store.redis.errors import state_in
from ..store.scripts import Command, Script
from ..store.worker_leases import WorkerLeases
from .loop import Loop

logger = logging.getLogger("jobpush.gateway")


class DeadWorkerReaper:
    """
    Looks after the leases of workers. Every gateway does; what is told is told once, see :class:`WorkerLeases`.

    A worker that can't reach Redis is not dead. So a lease that has ended counts only for a gateway that has itself
    been answered by Redis, without a gap, for the whole of ``Config.lost_after``: in that time a living worker has
    renewed it. Nor is it while Redis is full or a replica, which answers a question but lets nobody renew anything.

    Args:
        is_accepted: Whether Redis takes what this process says.
    """

    def __init__(self, loop: Loop, link: CommandConnection, config: Config, is_accepted: Callable[[], bool]) -> None:
        self._loop = loop
        self._link = link
        self._is_accepted = is_accepted
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
        if not self._is_accepted():
            self._answered_at = -math.inf
            return
        now = self._loop.now
        if now - self._answered_at > self._longest_gap:
            self._reached_since = now
        self._answered_at = now
        if reply and now - self._reached_since >= self._lost_after:
            self._lose(reply)

    def _lose(self, reply: Sequence[Any]) -> None:
        for calls, forget in self._leases.losses(reply):
            told = _Told(len(calls), partial(self._forget, forget))
            for call in calls:
                self._link.run(call, told.answered)

    def _forget(self, forget: Command, number: int) -> None:
        """All of it is told, so many tasks by this process: there may be more."""
        self.count += number
        logger.warning("a worker died; %d tasks that it had are lost", number)
        self._link.call(forget)
        self._ask()


class _Told:
    """Waits for the answers to some calls: of what Redis did not do, nothing is to be forgotten."""

    def __init__(self, number: int, then: Callable[[int], None]) -> None:
        self._left = number
        self._then = then
        self._told = 0

    def answered(self, reply: Any) -> None:
        if isinstance(reply, ConnectionLost) or state_in(reply) is not None:
            return  # the next look finds it again
        if isinstance(reply, Exception):
            logger.warning("Redis refused the end of a task: %s", reply)
        elif reply is not None:  # else Redis has forgotten the task before its worker
            self._told += reply[0]  # 0: another gateway was faster, or the task itself
        self._left -= 1
        if not self._left:
            self._then(self._told)
