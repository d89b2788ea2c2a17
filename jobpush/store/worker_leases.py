"""
Which worker has which messages, so that somebody finds out when it dies: calls for whichever client sends them.

The parent of a worker holds a lease (:meth:`WorkerLeases.hold`), and a claim for each message that it has received.
Any gateway looks for leases that have ended (:meth:`WorkerLeases.find_dead`) and says LOST of what is claimed there
(:meth:`WorkerLeases.losses`). No lock is needed for that: each script does all or nothing, and does it once, however
many gateways ask for it at the same time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ..channels import Topic, escape_id, unescape_id
from ..config import Config
from ..lifecycle import TaskState
from .endings import end_call, regain_call
from .keys import Keys
from .scripts import Call, Command, Script, load, load_of_task

#: What a user reads of a task whose worker is dead.
WORKER_DIED = "The worker of the task died"

#: Claims of a dead worker that are found at once: a few milliseconds of Redis's time to tell them.
_CLAIMS_AT_ONCE = 200


class Claim(NamedTuple):
    """A message that a worker has; the ids are escaped, so none holds a blank."""

    user_id: str
    task_id: str
    delivery: str

    @classmethod
    def of(cls, user_id: str, task_id: str, delivery: str) -> Claim:
        """The claim for a delivery, see :mod:`jobpush.lifecycle`."""
        return cls(escape_id(user_id), escape_id(task_id), delivery)

    @classmethod
    def read(cls, member: bytes) -> Claim:
        """As it is stored."""
        return cls(*member.decode().split(" "))

    def __str__(self) -> str:
        return " ".join(self)


class WorkerLeases:
    """
    The calls of workers and gateways.

    All times follow from ``Config.lost_after``, within which a death is to be known: a lease lasts two thirds of it,
    and is renewed, as it is looked at, six times as often; so three renewals may fail.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._keys = Keys(config.prefix)
        #: Seconds between two renewals, and between two looks at the leases.
        self.pause = config.lost_after / 6
        self._seconds = config.lost_after * 2 / 3

    @property
    def scripts(self) -> Sequence[Script]:
        """The scripts that a gateway calls."""
        return load("presence", "reap"), load_of_task("end")

    # -- for workers ---------------------------------------------------------------------------------

    def hold(self, worker_id: str, *, only_renew: bool = False) -> Call:
        """
        Begin or renew a lease; ``only_renew``: not begin it, for who begins it has to say all claims anew.

        Returns:
            A call that gives 0 if the lease was not held until now, see ``hold.lua``.
        """
        names = (self._keys.workers, self._keys.worker_claims(worker_id))
        return Call(load("hold"), names, (worker_id, self._seconds, self._config.task_ttl, int(not only_renew)))

    def claim(self, worker_id: str, *claims: Claim) -> Command:
        """The worker has received these."""
        return "SADD", self._keys.worker_claims(worker_id), *map(str, claims)

    def drop(self, worker_id: str, *claims: Claim) -> Command:
        """The worker has these no longer."""
        return "SREM", self._keys.worker_claims(worker_id), *map(str, claims)

    def are_claimed(self, worker_id: str, claims: Sequence[Claim]) -> Command:
        """Ask which claims still stand: one 1 or 0 for each."""
        return "SMISMEMBER", self._keys.worker_claims(worker_id), *map(str, claims)

    def leave(self, worker_id: str) -> Sequence[Command]:
        """The worker ends in good order, and has nothing any more."""
        return ("ZREM", self._keys.workers, worker_id), ("DEL", self._keys.worker_claims(worker_id))

    def regain(self, claim: Claim) -> Call:
        """Take back that a task is LOST."""
        return regain_call(self._config, _topic_of(claim), unescape_id(claim.task_id), claim.delivery)

    def lose(self, claim: Claim, error: str, *, least: TaskState = TaskState.PENDING) -> Call:
        """Say that a task is LOST, if nothing else is known of it and it has come as far as ``least``."""
        task_id = unescape_id(claim.task_id)
        return end_call(
            self._config,
            _topic_of(claim),
            task_id,
            TaskState.LOST,
            error=error,
            delivery=claim.delivery,
            least=least,
        )

    # -- for gateways --------------------------------------------------------------------------------

    def find_dead(self) -> Call:
        """Look for workers that died: a call for :meth:`losses`; once those are made, call until there are none."""
        arguments = (self._keys.worker_claims_prefix, _CLAIMS_AT_ONCE)
        return Call(load("presence", "reap"), (self._keys.workers,), arguments)

    def losses(self, reply: Sequence[Any]) -> Iterator[tuple[Sequence[Call], Command]]:
        """For each dead worker what is to be said of its tasks, and what makes its claims forgotten behind that."""
        for worker_id, members in reply:
            claims = [Claim.read(member) for member in members]
            yield [self.lose(claim, WORKER_DIED) for claim in claims], self.drop(worker_id.decode(), *claims)


def _topic_of(claim: Claim) -> Topic:
    return Topic(f"user:{claim.user_id}")
