"""Finds workers that died, and publishes their tasks as LOST."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from ..config import Config
from ..store.malformed import malformed
from ..store.redis.command_connection import Commands, ConnectionLost
from ..store.redis.errors import state_in
from ..store.worker_leases import WORKER_DIED, Claim, WorkerLeases
from .loop import Loop

logger = logging.getLogger("jobpush.gateway")


class DeadWorkerReaper:
    """
    Watches the leases of workers. Every gateway runs one; each end is published once, see :class:`WorkerLeases`.

    A worker that can't reach Redis is not dead. So an expired lease counts only for a gateway that Redis has answered
    without a gap for ``Config.lost_after``: a live worker has renewed its lease in that time. Nor does it count while
    Redis is full or a replica, which answers questions but accepts no renewal.

    Args:
        is_accepted: Returns whether Redis accepts this process's commands.
    """

    def __init__(self, loop: Loop, commands: Commands, config: Config, is_accepted: Callable[[], bool]) -> None:
        self._loop = loop
        self._commands = commands
        self._is_accepted = is_accepted
        self._leases = WorkerLeases(config)
        self._lost_after = config.lost_after
        #: The longest time between two replies that does not count as a gap: a worker's lease lasts longer.
        self._longest_gap = config.lost_after / 3
        self._answered_at = -math.inf
        self._reached_since = loop.now
        #: Tasks that were lost.
        self.count = 0

    def start(self) -> None:
        """Look for dead workers while the loop runs."""
        self._loop.call_later(self._leases.pause, self.start)
        if self._commands.is_up:
            self._ask()

    def on_connected(self) -> None:
        """Restart the gap-free time: Redis was unreachable for an unknown time, and may have lost renewals."""
        self._answered_at = -math.inf

    def _ask(self) -> None:
        self._commands.run(self._leases.find_dead(), self._answered)

    def _answered(self, reply: Any) -> None:
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
            for worker_id in malformed.read("leases of workers", reply, bytes.decode):
                self._commands.call(self._leases.claims_of(worker_id), partial(self._confirm_death_of, worker_id))

    def _confirm_death_of(self, worker_id: str, reply: Any) -> None:
        """Check the lease again: the worker may have resumed, and these may be its new claims."""
        if isinstance(reply, Exception):
            return  # the next look finds it again
        if not reply:
            self._commands.run(self._leases.forget_dead(worker_id))
            return
        self._commands.run(self._leases.find_dead(), partial(self._publish_losses_of, worker_id, reply))

    def _publish_losses_of(self, worker_id: str, members: Sequence[bytes], dead: Any) -> None:
        if isinstance(dead, Exception) or worker_id.encode() not in dead:
            return
        claims = malformed.read("claims of workers", members, lambda member: (member, Claim.read(member)))
        foreign = set(members).difference(member for member, _ in claims)
        if not claims:
            self._forget(worker_id, 0, list(foreign))
        losses = _Losses(len(claims), foreign, partial(self._forget, worker_id))
        for member, claim in claims:
            self._commands.run(self._leases.lose(claim, WORKER_DIED), partial(losses.answered, member))

    def _forget(self, worker_id: str, number: int, done: Sequence[bytes]) -> None:
        """Forget claims of a worker, with ``number`` losses that this process has published; look for more."""
        self.count += number
        if number:
            logger.warning("A worker died: %d of its tasks are LOST", number)
        self._commands.call(self._leases.drop_stored(worker_id, done))
        self._ask()


class _Losses:
    """
    Waits for the replies about some claims.

    Args:
        number: Replies to wait for.
        done: Claims to drop in any case.
        then: Gets the number of published losses, and the claims to drop; those that a server did not accept stay, and
            are found again.
    """

    def __init__(self, number: int, done: Iterable[bytes], then: Callable[[int, Sequence[bytes]], None]) -> None:
        self._left = number
        self._done = list(done)
        self._then = then
        self._published = 0

    def answered(self, member: bytes, reply: Any) -> None:
        """Note the reply about a claim."""
        if not isinstance(reply, ConnectionLost) and state_in(reply) is None:
            self._done.append(member)
            if isinstance(reply, Exception):
                logger.warning("Redis refused the end of a task: %s", reply)
            elif reply is not None:  # otherwise Redis has dropped the task before its worker
                self._published += reply[0]  # 0: another gateway was faster, or the task itself
        self._left -= 1
        if not self._left and self._done:
            self._then(self._published, self._done)
