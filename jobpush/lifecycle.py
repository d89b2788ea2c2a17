"""
The states of a task, and when a report about it is accepted. One state machine for every process and every broker.

One attempt goes to the right. Within it, a report of a state further to the left is refused::

    PENDING ──> RECEIVED ──> STARTED ──> PROGRESS ──┬──> RETRY                          its code asks for another try
       0            1           2           3       │      4
    published   a worker     it runs    it reported ├──> LOST                           its worker died
                has it                  progress    │      5
                                                    └──> SUCCESS | FAILURE | REVOKED    it is over
                                                           6

Any state may be left out. LOST gives way to a report of the run that was believed dead. The states of rank 6 give way
to nothing in their attempt, so each attempt ends once. A bar goes back only when ``attempt`` goes up.

Reports come late, twice, in any order, and from runs that should have ended. So each one contains its origin:

- ``published_at``: when the task was published. A task that is published again under its id starts from nothing;
  reports of the former run are refused.
- ``retry_number``: Celery's count, which goes up with each retry. A higher one begins the next attempt, a lower one is
  refused.
- ``delivery``: an id for one delivery of the message to one worker, made on receipt. A broker delivers an
  unacknowledged message again: after the death of a worker, or during a long task (``visibility_timeout``). Then
  ``retry_number`` is the same, and::

    report of another delivery   the stored state is
                                 PENDING, RECEIVED    STARTED, PROGRESS    RETRY, LOST      FAILURE, REVOKED
    RECEIVED                     same attempt         refused: it runs     next attempt     refused: it is over
    STARTED or more              same attempt         next attempt         next attempt     next attempt, it runs again

  After SUCCESS all are refused: a broker may repeat a task that has succeeded, and Celery keeps its result too.
  The newest delivery wins. It supersedes the one before when it begins or, if that one has ended with RETRY, when it is
  received; further reports of a superseded delivery are refused. So two workers that run one task at the same time do
  not make its bar jump. But if a superseded delivery succeeds first, so does the task: Celery keeps that result, and
  the newest delivery is superseded in turn. And if the newest delivery fails, is revoked without a cancel, or is LOST,
  a superseded delivery that still runs continues the task as the next attempt.
  A task that replaced itself (Celery's ``replace``) has handed over: its replacement continues the same attempt, unless
  progress was reported, since the bar would go back.
- The next attempt ends the one before with RETRY, if that has no end yet: its worker may still be alive, so it is not
  LOST. So each attempt that ran ends exactly once.
- A cancelled task, or one of a cancelled workflow, begins no further attempt once it is over. It is over when it asks
  for one, or is LOST.

Other processes may end an attempt: the parent of the task's process (killed, killed and retried, timed out, revoked),
or the gateway that finds its worker dead. That is accepted for the stored delivery only, or for a task that waits or
has handed over. LOST is accepted for RECEIVED, STARTED and PROGRESS only. A task in RETRY is not LOST with its worker:
the message of the next attempt is unacknowledged, and comes back. Nor is a task LOST while another worker holds an
earlier delivery of it that has not ended: its attempt ends with RETRY, and with LOST once the last of them is gone.

Users see ``attempt``. The store counts it from 1: ``retry_number`` plus the repeated deliveries.

``store/lua/lifecycle.lua`` decides all this inside Redis, in one step with the change.
"""

from __future__ import annotations

from enum import Enum


class TaskState(str, Enum):
    """Celery's states, and two of ours: PROGRESS (it has reported progress) and LOST (its worker died)."""

    PENDING = "PENDING"
    RECEIVED = "RECEIVED"
    STARTED = "STARTED"
    PROGRESS = "PROGRESS"
    RETRY = "RETRY"
    LOST = "LOST"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    REVOKED = "REVOKED"

    @property
    def rank(self) -> int:
        """Place in the order of one attempt."""
        return _RANKS[self]

    @property
    def is_final(self) -> bool:
        """Whether no later event of the task is expected. LOST counts, though the task may come back."""
        return self in _FINAL

    def __str__(self) -> str:
        return self.value


_RANKS = {
    TaskState.PENDING: 0,
    TaskState.RECEIVED: 1,
    TaskState.STARTED: 2,
    TaskState.PROGRESS: 3,
    TaskState.RETRY: 4,
    TaskState.LOST: 5,
    TaskState.SUCCESS: 6,
    TaskState.FAILURE: 6,
    TaskState.REVOKED: 6,
}
_FINAL = frozenset({TaskState.SUCCESS, TaskState.FAILURE, TaskState.REVOKED, TaskState.LOST})
