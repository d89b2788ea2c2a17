"""
Leases of workers, and their claims on messages, so that the death of a worker is detected: calls for any client.

The parent of a worker holds a lease (:meth:`WorkerLeases.hold`), and a claim for each message that it has received.
Any gateway looks for leases that have ended (:meth:`WorkerLeases.find_dead`), reads the claims of the dead worker
(:meth:`WorkerLeases.claims_of`), and publishes their tasks as LOST (:meth:`WorkerLeases.lose`). That needs no lock:
each script does all or nothing, and does it once, however many gateways call it at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..channels import Topic, escape_id, unescape_id
from ..config import Config
from ..events import CodedText
from ..lifecycle import TaskState
from .scripts import DEAD_WORKERS, FORGET_DEAD, HOLD, Call, Command, Request
from .task_calls import TaskCalls

#: The error that a user sees for a task of a dead worker.
WORKER_DIED = CodedText("The worker of the task died", "worker_died")

#: Claims of a dead worker that one command returns: a few milliseconds of Redis' time to publish.
_CLAIMS_AT_ONCE = 200


class Claim(NamedTuple):
    """A message that a worker holds; the ids are escaped, so none contains a blank."""

    user_id: str
    task_id: str
    delivery: str

    @classmethod
    def of(cls, user_id: str, task_id: str, delivery: str) -> Claim:
        """Return the claim for a delivery, see :mod:`jobpush.lifecycle`."""
        return cls(escape_id(user_id), escape_id(task_id), delivery)

    @classmethod
    def read(cls, member: bytes) -> Claim:
        """Read a stored claim. Further fields belong to newer versions; missing ones are empty."""
        user_id, task_id, delivery, *_ = [*member.decode().split(" "), "", ""]
        if not user_id or not task_id:
            raise ValueError("a claim has the ids of a user and a task")
        return cls(user_id, task_id, delivery)

    def __str__(self) -> str:
        return " ".join(self)


class WorkerLeases:
    """
    The calls of workers and gateways.

    All times follow from ``Config.lost_after``, within which a death is detected: a lease lasts two thirds of it. It is
    renewed and checked six times in that time, so three renewals may fail.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._calls = TaskCalls(config)
        self._keys = self._calls.keys
        #: Seconds between two renewals, and between two checks.
        self.pause = config.lost_after / 6
        self._seconds = config.lost_after * 2 / 3

    # -- for workers ---------------------------------------------------------------------------------

    def hold(self, worker_id: str, *, only_renew: bool = False) -> Sequence[Request]:
        """
        Begin or renew a lease; ``only_renew``: do not begin it, since the beginner must repeat all claims.

        Returns:
            Requests; the first reply is 0 if the lease was not held until now, see ``hold.lua``.
        """
        call = HOLD([self._keys.workers], worker_id=worker_id, seconds=self._seconds, begins=int(not only_renew))
        return call, ("EXPIRE", self._keys.worker_claims(worker_id), self._config.task_ttl)

    def claim(self, worker_id: str, *claims: Claim) -> Command:
        """Record that the worker holds these."""
        return "SADD", self._keys.worker_claims(worker_id), *map(str, claims)

    def drop(self, worker_id: str, *claims: Claim) -> Command:
        """Record that the worker no longer holds these."""
        return "SREM", self._keys.worker_claims(worker_id), *map(str, claims)

    def drop_stored(self, worker_id: str, members: Sequence[bytes]) -> Command:
        """Remove what :meth:`claims_of` has returned, whatever wrote it."""
        return "SREM", self._keys.worker_claims(worker_id), *members

    def are_claimed(self, worker_id: str, claims: Sequence[Claim]) -> Command:
        """Query which claims still stand: 1 or 0 for each."""
        return "SMISMEMBER", self._keys.worker_claims(worker_id), *map(str, claims)

    def leave(self, worker_id: str) -> Sequence[Command]:
        """End the lease of a worker that shuts down and holds no more messages."""
        return ("ZREM", self._keys.workers, worker_id), ("DEL", self._keys.worker_claims(worker_id))

    def regain(self, claim: Claim) -> Call:
        """Undo LOST."""
        return self._calls.regain(_topic_of(claim), unescape_id(claim.task_id), claim.delivery)

    def lose(self, claim: Claim, error: str, *, least: TaskState = TaskState.PENDING) -> Call:
        """Publish a task as LOST, unless a newer event is stored, or it has not reached ``least``."""
        return self.end(claim, TaskState.LOST, error, least=least)

    def end(self, claim: Claim, state: TaskState, error: str | None, *, least: TaskState = TaskState.PENDING) -> Call:
        """Publish the end of a delivery on behalf of its process."""
        return self._calls.end(
            _topic_of(claim),
            unescape_id(claim.task_id),
            state,
            error=error,
            delivery=claim.delivery,
            least=least,
        )

    # -- for gateways --------------------------------------------------------------------------------

    def find_dead(self) -> Call:
        """Return a call that gives the ids of workers with an expired lease."""
        return DEAD_WORKERS([self._keys.workers])

    def claims_of(self, worker_id: str) -> Command:
        """Query some claims of a dead worker; repeat it once they are dropped, until there are none."""
        return "SRANDMEMBER", self._keys.worker_claims(worker_id), _CLAIMS_AT_ONCE

    def forget_dead(self, worker_id: str) -> Call:
        """Forget a dead worker without claims."""
        return FORGET_DEAD([self._keys.workers], holder=worker_id)


def _topic_of(claim: Claim) -> Topic:
    return Topic(f"user:{claim.user_id}")
