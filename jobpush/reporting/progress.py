"""``progress``: the API for task code. Outside a tracked task it does nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, TypeVar

from .helper_threads import attributed, task_of_thread
from .queue_hooks import raise_interruption
from .running_task import RunningTask

T = TypeVar("T")

#: Distinguishes "not given" from ``None``, which is an unknown total.
_UNCHANGED: Any = object()

_current: ContextVar[RunningTask | None] = ContextVar("jobpush_task", default=None)


def current_progress() -> RunningTask | None:
    """Return the tracked task of this context; ``None`` outside."""
    return _current.get()


@contextmanager
def running(task: RunningTask) -> Iterator[None]:
    """Make ``task`` the current one; afterwards the previous one is current again."""
    token = _current.set(task)
    try:
        with attributed(task):
            yield
    finally:
        _current.reset(token)


def _task_of_thread() -> RunningTask | None:
    """Return the task that started this thread, and make it the thread's current one."""
    task = task_of_thread()
    if task is not None:
        _current.set(task)
    return task


class Stage:
    """A part of a task's bar; as a context manager it ends with its block."""

    def __init__(self, task: RunningTask | None) -> None:
        self._task = task

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._task is not None and exc is None:
            self._task.end_stage()


class Progress:
    """
    The progress of the current task: in its thread, in threads with a copy of its context, and in threads that it has
    certainly started.

    Example::

        from jobpush import progress

        def encode(frames):
            for frame in progress.iter(frames, message="encoding"):
                ...
            progress.update(message="done", url="/media/1.mp4")
    """

    def update(
        self,
        /,
        current: float | None = None,
        *,
        total: float | None = _UNCHANGED,
        message: str | None = None,
        **data: Any,
    ) -> None:
        """
        Report how far the task is. Stores the numbers and returns; a thread publishes the newest.

        Args:
            current: Units done; ``None``: unchanged.
            total: Units in all; ``None``: unknown; omitted: unchanged.
            message: What is being done; ``None``: unchanged.
            data: Values that Celery's JSON serializer takes. They are merged into the earlier ones and stay until the
                attempt ends.

        Raises:
            TaskCancelled: If the task has been cancelled; once, so that its clean-up may report too.
        """
        task = _current.get() or _task_of_thread()
        if task is None:
            return
        if task.is_cancelled:
            task.raise_cancelled()
        if current is not None:
            task.current = current
        if total is not _UNCHANGED:
            task.total = total
        if message is not None:
            task.message = message
        if data:
            task.data.update(data)
        if not task.is_changed:
            task.mark_changed()

    def advance(
        self, /, n: float = 1, *, total: float | None = _UNCHANGED, message: str | None = None, **data: Any
    ) -> None:
        """Report that ``n`` more units are done, from any number of threads; the rest as in :meth:`update`."""
        task = _current.get() or _task_of_thread()
        if task is None:
            return
        if task.is_cancelled:
            task.raise_cancelled()
        try:
            with task.lock:
                task.current += n
        except Exception as exc:  # not numbers: progress may be wrong, the task continues
            raise_interruption(exc)
            task.warn_once("amount", exc)
        if total is not _UNCHANGED or message is not None or data:
            self.update(total=total, message=message, **data)
        elif not task.is_changed:
            task.mark_changed()

    def iter(self, iterable: Iterable[T], *, total: float | None = None, message: str | None = None) -> Iterator[T]:
        """
        Iterate over ``iterable`` and count; an item is counted when the next one is requested.

        Args:
            iterable: Anything to iterate over.
            total: Number of items; ``None``: ``len(iterable)``, or unknown if that doesn't exist or fails.
            message: As in :meth:`update`.

        Raises:
            TaskCancelled: Between two items, if the task has been cancelled.
        """
        if total is None:
            total = _length_of(iterable)
        self.update(0, total=total, message=message)
        for done, item in enumerate(iterable, 1):
            yield item
            self.update(done)

    def stage(self, name: str, *, weight: float | None = None, total: float | None = None) -> Stage:
        """
        Begin a part of the bar. From now on ``current`` and ``total`` count within it; the bar never goes back.

        Args:
            name: Shown as the message until another is given, and as ``data["stage"]``.
            weight: Percent of the whole bar that the stage takes. The weights should add up to 100; the excess is
                cut. ``None``: its share of the time in earlier runs of the same task, so that the bar moves evenly; the
                whole rest until a run has succeeded.
            total: Units of the stage, as in :meth:`update`.

        Returns:
            A context manager that ends the stage. It is optional: the next stage ends this one.

        Example::

            with progress.stage("probing", weight=5):
                probe(path)
            with progress.stage("encoding", weight=90):
                for frame in progress.iter(frames): ...
            progress.stage("thumbnail")
        """
        task = _current.get() or _task_of_thread()
        if task is not None:
            if task.is_cancelled:
                task.raise_cancelled()
            task.begin_stage(name, weight=weight, total=total)
        return Stage(task)

    def log(self, text: str, level: str = "info") -> None:
        """Publish a line of text: ``jobpush:log``."""
        task = _current.get() or _task_of_thread()
        if task is not None:
            task.log(text, level=level)

    @property
    def is_cancelled(self) -> bool:
        """Whether the task has been cancelled."""
        task = _current.get() or _task_of_thread()
        return task is not None and task.is_cancelled

    def raise_if_cancelled(self) -> None:
        """
        Leave the task if it has been cancelled.

        Raises:
            TaskCancelled: If so, once. No ``except Exception`` catches it; ``finally`` runs.
        """
        task = _current.get() or _task_of_thread()
        if task is not None and task.is_cancelled:
            task.raise_cancelled()


def _length_of(iterable: Iterable[object]) -> int | None:
    """Return the number of items; ``None`` if it is unknown, or ``len()`` raises."""
    try:
        return len(iterable) if isinstance(iterable, Sized) else None
    except Exception as exc:
        raise_interruption(exc)
        return None


progress = Progress()
