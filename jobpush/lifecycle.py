"""
The life of a task: its states, and when a word about it is heard. One machine for every process and every broker.

One attempt goes to the right; within it nothing is heard that stands further to the left::

    PENDING ──> RECEIVED ──> STARTED ──> PROGRESS ──┬──> RETRY                          its code asks for another try
       0            1           2           3       │      4
    published   a worker     it runs    it told     ├──> LOST                           its worker died
                has it                  how far     │      5
                                                    └──> SUCCESS | FAILURE | REVOKED    over, once and for all
                                                           6

Any state may be left out. LOST gives way to a word of the very run that was believed dead; the states of rank 6
give way to nothing in their attempt, so each attempt ends once. A bar goes back only where ``attempt`` goes up.

Words come late, twice, in any order, and from runs that should not be any more, so each one says where it belongs:

- ``run``: when the task was published. A task published anew under its old id begins from nothing; what is still
  said of the former one is refused.
- ``number``: Celery's count, which goes up with each retry. A higher one begins the next attempt, a lower one is
  refused.
- ``delivery``: one stay of the message with one worker, made up when it is received. A broker delivers again what was
  not acknowledged: after the death of a worker, or in the middle of a long task (``visibility_timeout``). Then
  ``number`` is the same, and::

    word of another delivery     the stored state is
                                 PENDING, RECEIVED    STARTED, PROGRESS    RETRY, LOST      SUCCESS, FAILURE, REVOKED
    RECEIVED                     same attempt         refused: it runs     next attempt     refused: it is over
    STARTED or more              same attempt         next attempt         next attempt     next attempt, it runs again

  The newest delivery wins. The one before is superseded once the newest has begun or, where it has ended with RETRY,
  once the newest is received; what it still says is refused. So two workers that run the same task at the same time
  never make its bar jump to and fro.
  A task that replaced itself (Celery's ``replace``) has handed over: what takes its place goes on in the same attempt,
  unless progress was told, for then the bar goes back.
- The begin of the next attempt ends the one before with RETRY, if it has no end yet: its worker may still live, so it
  is not LOST. So each attempt that ran ends exactly once.
- A task that was cancelled, or whose workflow was, and that is over, begins no further attempt; and is over when it
  asks for one, or is LOST.

Who is not the task itself may end its attempt: the parent of its process (killed, killed and tried again, timed out,
revoked), or the gateway that finds its worker dead. That is heard only of the delivery that is stored, or of a task
that waits, as one does that has handed over; and LOST is only said of what is RECEIVED, STARTED or PROGRESS. RETRY is
not LOST with its worker: the message of the next attempt waits unacknowledged, and comes back.

``attempt``, which users see, counts from 1 and is given by the store. It is ``number`` plus what was delivered again.

All this is decided inside Redis, by ``store/lifecycle.lua``, in one step with what it decides about.
"""

from __future__ import annotations

from enum import Enum


class TaskState(str, Enum):
    """Celery's states, and two of ours: PROGRESS (started, and told how far) and LOST (its worker died)."""

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
        """Whether no later event of the task is expected. LOST counts: the task may be heard of again, or not."""
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
