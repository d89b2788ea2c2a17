"""Bounded queue of events to publish: no threads, no Redis."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from typing import Any

from ..events import TaskState
from ..store import TaskWrite
from .records import Batch, Ending, StageDurations

#: Tasks with queued events; beyond that the oldest is dropped.
MAX_TASKS = 10_000
#: Queued stage durations; beyond that the oldest are dropped.
MAX_DURATIONS = 100


class Outbox:
    """
    Events by task, in order.

    Newer progress replaces older progress of its task. Other states stay until :meth:`put_back` reports that they
    could not be sent: then only the newest state of each task is kept. The first events of workflows and of their
    members leave before all others: otherwise a workflow could end once all known members have ended, before the rest
    is known.
    """

    def __init__(self) -> None:
        self._beginnings: OrderedDict[str, TaskWrite] = OrderedDict()
        self._writes: OrderedDict[str, list[TaskWrite]] = OrderedDict()
        self._endings: OrderedDict[str, Ending] = OrderedDict()
        self._durations: deque[StageDurations] = deque(maxlen=MAX_DURATIONS)
        #: Tasks with a dropped newest state, because too many waited.
        self.dropped = 0

    def __bool__(self) -> bool:
        return bool(self._beginnings or self._writes or self._endings or self._durations)

    def add(self, write: TaskWrite, *, only_newest: bool = False) -> None:
        """Append ``write`` to the queued events of its task, or replace them if ``only_newest``."""
        if _is_beginning(write):
            self._beginnings[write.event.task_id] = write
            self._drop_oldest(self._beginnings)
            return
        waiting = self._writes.setdefault(write.event.task_id, [])
        if only_newest:
            waiting.clear()
        elif waiting and waiting[-1].event.state is write.event.state is TaskState.PROGRESS:
            waiting.pop()
        waiting.append(write)
        self._drop_oldest(self._writes)

    def add_ending(self, ending: Ending) -> None:
        """Add the end of a task; the first final one counts."""
        self._endings[ending.task_id] = _first_final(self._endings.get(ending.task_id), ending)
        self._drop_oldest(self._endings)

    def add_durations(self, durations: StageDurations) -> None:
        """Add the durations of a task's stages."""
        self._durations.append(durations)

    def take(self, size: int) -> Batch:
        """Remove and return the oldest: all durations, and the events and endings of at most ``size`` tasks."""
        batch = Batch(durations=list(self._durations))
        self._durations.clear()
        while self._beginnings and len(batch.writes) < size:
            batch.writes.append(self._beginnings.popitem(last=False)[1])
        while self._writes and not self._beginnings and len(batch.writes) < size:
            batch.writes += self._writes.popitem(last=False)[1]
        while self._endings and not (self._beginnings or self._writes) and len(batch.endings) < size:
            batch.endings.append(self._endings.popitem(last=False)[1])
        return batch

    def take_some(self, size: int) -> tuple[list[TaskWrite], list[Ending]]:
        """Remove and return the oldest events and endings, each of at most ``size`` tasks; first events alone."""
        writes = [self._beginnings.popitem(last=False)[1] for _ in range(min(size, len(self._beginnings)))]
        if self._beginnings:
            return writes, []
        for _ in range(min(size, len(self._writes))):
            writes += self._writes.popitem(last=False)[1]
        return writes, [self._endings.popitem(last=False)[1] for _ in range(min(size, len(self._endings)))]

    def discard(self, task_ids: Iterable[str]) -> None:
        """Remove the events of tasks that have newer ones, but for the first events of workflows and their members."""
        for task_id in task_ids:
            self._writes.pop(task_id, None)

    def put_back(self, writes: Sequence[TaskWrite], endings: Sequence[Ending]) -> None:
        """Put back what could not be sent, unless a newer event of the task is queued."""
        for write in filter(_is_beginning, writes):
            self._beginnings.setdefault(write.event.task_id, write)
        newest = {write.event.task_id: write for write in writes if not _is_beginning(write)}
        for task_id, write in reversed(newest.items()):
            if newer := self._writes.get(task_id):
                del newer[:-1]
            else:
                self._writes[task_id] = [write]
                self._writes.move_to_end(task_id, last=False)
        for ending in endings:
            self._endings[ending.task_id] = _first_final(ending, self._endings.get(ending.task_id))
        for waiting in (self._beginnings, self._writes, self._endings):
            self._drop_oldest(waiting)

    def _drop_oldest(self, waiting: OrderedDict[str, Any]) -> None:
        while len(waiting) > MAX_TASKS:
            waiting.popitem(last=False)
            self.dropped += 1


def _is_beginning(write: TaskWrite) -> bool:
    """Whether it is the first event of a workflow or of one of its members."""
    is_of_workflow = write.plan is not None or write.membership is not None
    return is_of_workflow and write.event.state is TaskState.PENDING


def _first_final(earlier: Ending | None, later: Ending | None) -> Ending:
    """Return the end to publish of two of one task, at least one of which exists."""
    if earlier is None or (later is not None and not earlier.state.is_final):
        assert later is not None  # noqa: S101 - for the type checker
        return later
    return earlier
