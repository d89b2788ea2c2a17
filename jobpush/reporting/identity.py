"""The identity of one attempt of a task: its user, title and place among other tasks. Knows no queue."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Any

from ..events import TaskEvent, TaskState, text_for_users
from ..store import Membership, TaskWrite

#: States in which a task may wait for its ETA.
_WAITING = frozenset({TaskState.PENDING, TaskState.RECEIVED, TaskState.RETRY})

#: Characters of a title; it travels with every event.
MAX_TITLE_LENGTH = 200


def new_delivery() -> str:
    """Return an id for one delivery of a message to one worker, see :mod:`jobpush.lifecycle`."""
    return secrets.token_hex(8)


@dataclass(frozen=True, slots=True)
class TaskIdentity:
    """
    One attempt of a task, the same in every process.

    Args:
        task_id: The queue's id of the task.
        user_id: The user of the task.
        name: The queue's name of the task.
        title: The text that the user reads.
        created_at: Unix seconds of the first publish; differs when a task is published again under its old id.
        attempt: 1, plus one with each retry.
        eta: Unix seconds before which it does not run; ``None``: none.
        max_attempts: Limit of attempts; ``None``: no limit, or not known here.
        delivery: The delivery of its message to a worker, see :mod:`jobpush.lifecycle`; empty: not yet delivered.
        worker: The worker that has the message; empty: none.
        parent_id: The task that published it; ``None``: none.
        group_id: The queue's id of its group; ``None``: none.
        root_id: The workflow that it is a member of; ``None``: it has its own bar.
        membership: Its place in the workflow.
        is_again: Redelivered without a publish time: reuse the stored run if there is one.
        notifies_end: Whether the user's inbox keeps the end.
    """

    task_id: str
    user_id: str
    name: str
    title: str
    created_at: float
    attempt: int = 1
    eta: float | None = None
    max_attempts: int | None = None
    delivery: str = ""
    worker: str = ""
    parent_id: str | None = None
    group_id: str | None = None
    root_id: str | None = None
    membership: Membership | None = None
    is_again: bool = False
    notifies_end: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", text_for_users(self.title, MAX_TITLE_LENGTH))  # from any source

    def event(
        self, state: TaskState, *, at: float | None = None, error: str | None = None, **progress: Any
    ) -> TaskEvent:
        """Return an event of this attempt; ``at``: Unix seconds, ``None`` for now; ``progress``: further members."""
        now = time.time() if at is None else at
        return TaskEvent(
            task_id=self.task_id,
            state=state,
            name=self.name,
            title=self.title,
            attempt=self.attempt,
            max_attempts=self.max_attempts,
            run_at=self.eta if self.eta is not None and self.eta > now and state in _WAITING else None,
            created_at=self.created_at,
            at=now,
            error=error,
            root_id=self.root_id,
            parent_id=self.parent_id,
            group_id=self.group_id,
            **progress,
        )

    def write(self, event: TaskEvent, *, task_ttl: int, is_handed_over: bool = False) -> TaskWrite:
        """
        Return the write that stores ``event``.

        Args:
            event: An event of this task.
            task_ttl: Seconds that an unfinished task is kept, in addition to the time until its ``eta``.
            is_handed_over: See :class:`TaskWrite`.
        """
        delay = int(max(0.0, self.eta - event.at)) if self.eta else 0
        ttl = None if event.state.is_final else task_ttl + delay
        pinned = event.state is not TaskState.PROGRESS
        return TaskWrite(
            self.user_id,
            event,
            pinned=pinned,
            ttl=ttl,
            delivery=self.delivery,
            worker=self.worker,
            is_handed_over=is_handed_over,
            membership=self.membership,
            is_again=self.is_again,
            notifies_end=self.notifies_end,
        )
