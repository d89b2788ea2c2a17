"""What a process hands to its publisher: records without behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from ..events import TaskState
from ..store import TaskWrite
from .identity import TaskIdentity
from .running_task import RunningTask


@dataclass(frozen=True, slots=True)
class StageDurations:
    """How long the stages of a task took, in seconds by their keys."""

    task_name: str
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Ending:
    """
    The end of a task as the parent of its worker sees it, without the task's progress.

    Args:
        task_id: The queue's id of the task.
        state: A final state, or RETRY.
        error: The text that the user reads.
        tracked: The task as its message describes it, in case the store does not know it.
        delivery: The delivery that has ended, see :mod:`jobpush.lifecycle`; empty for a task that waits.
        run_at: Unix seconds at which the next attempt begins; ``None``: at once, or never.
        notifies_end: Whether the user's inbox keeps the end.
        user_id: The user of the task, if known. Otherwise its end has to wait for the primary of a cluster that holds
            its owner, too.
    """

    task_id: str
    state: TaskState
    error: str | None = None
    tracked: TaskIdentity | None = None
    delivery: str = ""
    run_at: float | None = None
    notifies_end: bool = False
    user_id: str | None = None


@dataclass
class Batch:
    """What is sent in one go, in this order. The sender removes what is sent."""

    writes: list[TaskWrite] = field(default_factory=list)
    #: Running tasks with new progress.
    changed: list[RunningTask] = field(default_factory=list)
    endings: list[Ending] = field(default_factory=list)
    #: Workflows (user id, task id) with unpublished events of their members.
    workflows: list[tuple[str, str]] = field(default_factory=list)
    #: Tasks with lines of text.
    logs: list[RunningTask] = field(default_factory=list)
    durations: list[StageDurations] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any(getattr(self, one.name) for one in fields(self))

    def take_one(self) -> Batch:
        """Remove the first record and return it alone; an empty batch if there is none."""
        for name in (one.name for one in fields(self)):
            if waiting := getattr(self, name):
                return Batch(**{name: [waiting.pop(0)]})
        return Batch()
