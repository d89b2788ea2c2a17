"""What waits to be published, bounded: pure, no threads, no Redis."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from ..events import TaskState
from ..store import TaskWrite
from .identity import TaskIdentity

if TYPE_CHECKING:
    from .running_task import RunningTask

#: Tasks of which something may wait; then the oldest gives way.
MAX_TASKS = 10_000
#: Lines of text that may wait; then the oldest gives way.
MAX_LINES = 1_000
#: Lessons that may wait; then the oldest gives way.
MAX_LESSONS = 100


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a task's text; ``at`` in Unix seconds."""

    user_id: str
    task_id: str
    message: str
    level: str
    at: float


@dataclass(frozen=True, slots=True)
class StageDurations:
    """How long the stages of a task took, in seconds by their keys."""

    task_name: str
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Ending:
    """
    The end of a task as seen by its worker's parent, who does not know how far the task was.

    Args:
        task_id: Celery's id.
        state: A final one, or RETRY.
        error: What the user is told.
        tracked: The task as its message describes it, in case that the store does not know it.
        delivery: Which stay of the message has ended, see :mod:`jobpush.lifecycle`; empty for a task that waits.
        run_at: Unix seconds at which the next attempt begins; ``None``: at once, or never.
    """

    task_id: str
    state: TaskState
    error: str | None = None
    tracked: TaskIdentity | None = None
    delivery: str = ""
    run_at: float | None = None


@dataclass
class Batch:
    """What is sent in one go, in this order; who sends it takes out what is sent."""

    writes: list[TaskWrite] = field(default_factory=list)
    #: Running tasks whose newest state is to be told.
    changed: list[RunningTask] = field(default_factory=list)
    endings: list[Ending] = field(default_factory=list)
    #: Workflows (user id, task id) that have something left to tell.
    untold: list[tuple[str, str]] = field(default_factory=list)
    lines: list[LogLine] = field(default_factory=list)
    lessons: list[StageDurations] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any(getattr(self, one.name) for one in fields(self))

    def take_one(self) -> Batch:
        """Take out the first thing alone; nothing if there is nothing."""
        for name in (one.name for one in fields(self)):
            if waiting := getattr(self, name):
                return Batch(**{name: [waiting.pop(0)]})
        return Batch()


class Outbox:
    """
    Events by task, in order.

    Progress gives way to newer progress of its task; the other states don't, until :meth:`put_back` says that
    they could not be sent: then only the newest state of each task is worth keeping. But first of all it is told
    which workflows and members there are: one whose members have all ended would have ended before it knew of others.
    """

    def __init__(self) -> None:
        self._beginnings: OrderedDict[str, TaskWrite] = OrderedDict()
        self._writes: OrderedDict[str, list[TaskWrite]] = OrderedDict()
        self._endings: OrderedDict[str, Ending] = OrderedDict()
        self._lines: deque[LogLine] = deque(maxlen=MAX_LINES)
        self._lessons: deque[StageDurations] = deque(maxlen=MAX_LESSONS)
        #: Tasks of which the newest state was given up because too many waited.
        self.dropped = 0

    def __bool__(self) -> bool:
        return bool(self._beginnings or self._writes or self._endings or self._lines or self._lessons)

    def add(self, write: TaskWrite, *, only_newest: bool = False) -> None:
        """Let ``write`` wait behind what waits of its task, or with ``only_newest`` instead of that."""
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
        """Let the end of a task wait; the first final one that is told counts."""
        self._endings[ending.task_id] = _first_final(self._endings.get(ending.task_id), ending)
        self._drop_oldest(self._endings)

    def add_line(self, line: LogLine) -> None:
        """Let a line of text wait."""
        self._lines.append(line)

    def add_lesson(self, lesson: StageDurations) -> None:
        """Let what a run has taught wait."""
        self._lessons.append(lesson)

    def take(self, size: int) -> Batch:
        """Take out the oldest: all lines and lessons, the events and endings of at most ``size`` tasks."""
        batch = Batch(lines=list(self._lines), lessons=list(self._lessons))
        self._lines.clear()
        self._lessons.clear()
        while self._beginnings and len(batch.writes) < size:
            batch.writes.append(self._beginnings.popitem(last=False)[1])
        while self._writes and not self._beginnings and len(batch.writes) < size:
            batch.writes += self._writes.popitem(last=False)[1]
        while self._endings and not (self._beginnings or self._writes) and len(batch.endings) < size:
            batch.endings.append(self._endings.popitem(last=False)[1])
        return batch

    def put_back(self, writes: Sequence[TaskWrite], endings: Sequence[Ending]) -> None:
        """Take back what could not be sent, as far as nothing newer waits."""
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
    """Whether it tells of a workflow or of one of its members for the first time."""
    is_of_workflow = write.plan is not None or write.membership is not None
    return is_of_workflow and write.event.state is TaskState.PENDING


def _first_final(earlier: Ending | None, later: Ending | None) -> Ending:
    """Which of two ends of a task is to be told, at least one of which there is."""
    if earlier is None or (later is not None and not earlier.state.is_final):
        assert later is not None  # noqa: S101 - for the type checker
        return later
    return earlier
