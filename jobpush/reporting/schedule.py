"""When events are due: progress at the rate of its task, everything else at once. No lock, no clock, no Redis."""

from __future__ import annotations

import math

from .outbox import Outbox
from .records import Batch
from .running_task import RunningTask

#: Events in one round trip: few enough to be done well within ``publish_timeout``.
BATCH_SIZE = 200
#: Part of ``min_interval`` for which progress waits after other progress, to share a round trip with later progress;
#: and its upper bound in seconds.
HOLD = 0.1
MAX_HOLD = 0.02
#: Tasks with log lines that wait for Redis; beyond that the oldest lines are dropped.
MAX_WAITING_LOGS = 50


class Schedule:
    """
    The queue of records to publish. All times are monotonic seconds and passed in.

    Args:
        min_interval: Seconds between two progress events of a task.
    """

    def __init__(self, min_interval: float) -> None:
        self._min_interval = min_interval
        self.outbox = Outbox()
        self._changed: set[RunningTask] = set()
        #: Workflows (user id, task id) with unpublished events of their members, and when those may be published.
        self._workflows: dict[tuple[str, str], float] = {}
        #: Tasks with log lines, and when those may be published.
        self._logs: dict[RunningTask, float] = {}
        #: When the next progress may be sent; progress reported until then shares its round trip.
        self.next_progress_at = -math.inf

    def __bool__(self) -> bool:
        return bool(self.outbox or self._changed or self._workflows or self._logs)

    def add_changed(self, task: RunningTask) -> float:
        """Add a running task with new progress; return when it is due."""
        self._changed.add(task)
        return max(task.due_at, self.next_progress_at)

    def add_workflow(self, workflow: tuple[str, str], due_at: float) -> None:
        """Add a workflow with something to publish."""
        self._workflows.setdefault(workflow, due_at)

    def add_log(self, task: RunningTask, due_at: float) -> None:
        """Add a task with log lines."""
        self._logs.setdefault(task, due_at)

    def bound_logs(self) -> None:
        """Drop the log lines of the tasks that have waited longest."""
        while len(self._logs) > MAX_WAITING_LOGS:
            oldest = next(iter(self._logs))
            del self._logs[oldest]
            oldest.has_lines = False
            oldest.log_lines.clear()

    def due_at(self, *, is_urgent: bool) -> float:
        """Return when something is due: minus infinity for now, infinity for an empty queue."""
        if self.outbox or (is_urgent and self):
            return -math.inf
        progress_at = min((task.due_at for task in self._changed), default=math.inf)
        return min((max(progress_at, self.next_progress_at), *self._workflows.values(), *self._logs.values()))

    def take(self, now: float, *, is_urgent: bool) -> Batch:
        """Remove and return the records that are due; with ``is_urgent`` also those that could wait."""
        self._changed = {task for task in self._changed if not task.has_ended}  # their end has the newest progress
        batch = self.outbox.take(BATCH_SIZE)
        batch.changed = [task for task in self._changed if is_urgent or task.due_at <= now]
        if batch.changed:
            self._changed.difference_update(batch.changed)
            self.next_progress_at = now + min(HOLD * self._min_interval, MAX_HOLD)
            for task in batch.changed:
                task.due_at = now + self._min_interval
        batch.workflows = [workflow for workflow, due_at in self._workflows.items() if is_urgent or due_at <= now]
        for workflow in batch.workflows:
            del self._workflows[workflow]
        batch.logs = [task for task, due_at in self._logs.items() if is_urgent or due_at <= now or task.has_ended]
        for task in batch.logs:
            del self._logs[task]
            task.has_lines = False  # later changes of the task are added again
        return batch
