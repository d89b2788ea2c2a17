"""The state of a running task: written by the task, read by the publisher's thread."""

from __future__ import annotations

import logging
import mmap
import operator
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Protocol
from weakref import WeakSet

from ..config import Config
from ..errors import TaskCancelled
from ..events import TaskEvent, TaskState, bounded_amounts, percent_of, text_for_users
from ..store import Published, TaskWrite
from ..store.forks import register_after_fork
from .data import sendable_data
from .identity import TaskIdentity
from .queue_hooks import raise_interruption
from .rate import RateEstimator
from .stages import Stages
from .task_log import TaskLog

logger = logging.getLogger(__name__)

#: Characters of a message; it travels with every event.
MAX_MESSAGE_LENGTH = 500

#: One byte per task, shared with forked processes: whether one of them has logged that its progress is not published.
_FORK_WARNINGS = mmap.mmap(-1, mmap.PAGESIZE)
_numbers = count()
#: Different warnings that one task may log.
_MAX_WARNINGS = 20


class Clock(Protocol):
    """The functions of :mod:`time` behind everything that is shown to users. Waiting does not use it."""

    def time(self) -> float:
        """Return Unix seconds."""

    def monotonic(self) -> float:
        """Return seconds that never go back."""


class ProgressSink(Protocol):
    """The part of the publisher that a running task uses."""

    def changed(self, task: RunningTask) -> None:
        """Publish the progress of the task when it is due."""

    def lines_added(self, task: RunningTask) -> None:
        """Publish the log lines of the task when they are due."""

    def record_durations(self, task_name: str, seconds: Mapping[str, float]) -> None:
        """Record how long the stages of the task took."""

    def submit(self, *writes: TaskWrite) -> None:
        """Publish events soon."""

    def publish_now(self, writes: Sequence[TaskWrite]) -> Published | None:
        """Publish events, and wait for it."""


class RunningTask:
    """
    The progress that a task has reported in this attempt.

    The task's threads only store into ``current``, ``total``, ``message`` and :attr:`data`, then look at
    ``is_changed``: no lock, because this is the hot path. The publisher clears the flag before it reads, so a change
    during the read is published next time, and the last state always is. A read-modify-write (``advance``) takes
    :attr:`lock`, since several threads of a task may report.
    """

    def __init__(self, tracked: TaskIdentity, publisher: ProgressSink, config: Config, clock: Clock = time) -> None:
        self.lock = threading.RLock()
        #: Whether the task's ``logging`` records are appended to its log.
        self.captures = False
        self.log_lines = TaskLog()
        self.has_lines = False
        #: Monotonic seconds before which no further lines are published.
        self.lines_due_at = 0.0
        self.current: float = 0
        self.total: float | None = None
        self.message = ""
        #: Merged by ``update()``, which is atomic in the interpreter, like the copy that the publisher makes.
        self.data: dict[str, Any] = {}
        self.is_changed = False
        self.is_cancelled = False
        self.is_handed_over = False
        #: The error that was published last.
        self.error: str | None = None
        #: Shown in place of the message as long as the task runs.
        self.notice = ""
        #: Monotonic seconds before which no further progress is published.
        self.due_at = 0.0
        #: Whether any progress has been published; it may be in flight when the attempt ends.
        self.has_published = False
        #: Whether the attempt has ended: nothing more is published for it.
        self.has_ended = False
        #: Whether its next attempt is published.
        self.will_retry = False
        #: The user's text for the exception that the code raised; ``None``: no exception.
        self.failure: str | None = None
        self.tracked = tracked
        #: Seconds that the stages of this task took in earlier runs.
        self.known_durations: Mapping[str, float] = {}
        self._publisher = publisher
        self._config = config
        self._clock = clock
        self._started_at = clock.time()
        #: Estimators for the units, and for the percent of the time of all stages.
        self._rate, self._pace = RateEstimator(), RateEstimator()
        self._stages: Stages | None = None
        self._percent: float | None = None
        self._amounts: tuple[float, float | None] = (0, None)
        self._warned: set[str] = set()
        self._thread_id = threading.get_ident()
        #: The threads that ran when the task's own thread began its clean-up; ``None``: it has not.
        self._threads_at_cancel: WeakSet[threading.Thread] | None = None
        self._is_forked = False
        self._number = next(_numbers) % len(_FORK_WARNINGS)
        _FORK_WARNINGS[self._number] = 0
        register_after_fork(self)

    def reset_after_fork(self) -> None:
        """Publish nothing from a forked child: the counts of the two processes would overwrite each other."""
        self.lock, self.log_lines = threading.RLock(), TaskLog()
        self.has_lines = False
        self._is_forked = self.has_ended = True
        self.is_changed = False

    # -- the task's side -----------------------------------------------------------------------------

    def mark_changed(self) -> None:
        """Publish the newest state: at once, or when ``min_interval`` has passed; see ``schedule.HOLD``."""
        self.is_changed = True
        if self._is_forked:
            self._warn_in_fork()
        elif not self.has_ended:
            self._publisher.changed(self)
        elif threading.get_ident() != self._thread_id:
            self.warn_once("late progress", "a thread of it still runs after its end; wait for the thread")

    def raise_cancelled(self) -> None:
        """
        Raise :class:`~jobpush.TaskCancelled` once, so that the clean-up of the task may report progress.

        Threads other than the task's own raise it again, because a thread pool gives them further work; but not while
        they handle it, and not if the clean-up has started them.
        """
        is_handled, before = _is_handling_cancel(), self._threads_at_cancel
        if threading.get_ident() != self._thread_id:
            if not is_handled and (before is None or threading.current_thread() in before):
                raise TaskCancelled(self.tracked.task_id)
        elif before is None:
            self._threads_at_cancel = WeakSet(threading.enumerate())
            if not is_handled:
                raise TaskCancelled(self.tracked.task_id)

    def begin_stage(self, name: str, *, weight: float | None, total: float | None) -> None:
        """End the current stage and begin another; ``weight`` is in percent, ``None`` for its share in earlier runs."""
        stages = self._stages or Stages(self.known_durations)
        name, weight = self._text_of(name), self._weight_of(weight)
        # In this order a concurrent reader sees too little, which _overall_percent corrects.
        self.current, self.total, self.message = 0, total, name
        stages.begin(name, weight, self._clock.monotonic())
        self._stages = stages
        # The publisher's thread may be reading the old ones.
        self._rate = RateEstimator()
        if not self.known_durations:
            self._pace = RateEstimator()
        self.data["stage"] = name
        self.mark_changed()

    def end_stage(self) -> None:
        """Count the running stage as complete."""
        if self._stages is not None:
            self._stages.end(self._clock.monotonic())
            self.mark_changed()

    def log(self, text: str, *, level: str) -> None:
        """Append a line of text to the log of the task."""
        if type(text) is not str:
            text = self._text_of(text)
        if type(level) is not str:
            level = self._text_of(level)
        self.log_lines.add(text, level, self._clock.time())
        if not self.has_lines:
            self.has_lines = True
            if self._is_forked:
                self._warn_in_fork()
            else:
                self._publisher.lines_added(self)

    def finish(self, state: TaskState, *, error: str | None = None) -> None:
        """Publish the end of the attempt soon, with its newest progress, and record how long its stages took."""
        if self._stages is not None and state is TaskState.SUCCESS:
            durations = self._stages.recorded_durations(self._clock.monotonic())
            self._publisher.record_durations(self.tracked.name, durations)
        self._publisher.submit(*self.final_writes(state, error=error))

    def finish_now(self, state: TaskState, *, error: str | None = None) -> None:
        """Publish the end of the attempt, and wait for it: later may be too late."""
        self._publisher.publish_now(self.final_writes(state, error=error))

    def hand_over(self) -> None:
        """Let the replacement of this task continue its bar. Idempotent."""
        if not self.is_handed_over:
            self.is_handed_over = True
            state = TaskState.PROGRESS if self.is_changed or self.due_at else TaskState.STARTED
            self._publisher.publish_now([self.write(self.snapshot(state))])

    def final_writes(self, state: TaskState, *, error: str | None = None) -> list[TaskWrite]:
        """
        Return the last events of the attempt: its progress, if none has been published yet, and its end.

        Nothing else is published from now on: queued progress would arrive after the end, when the broker may already
        redeliver the task. A forked process ends nothing: the task goes on where it runs.
        """
        if self._is_forked:
            return []
        self.has_ended = True
        has_progress = self.is_changed or self.due_at > 0
        writes = [self.write(self.snapshot())] if has_progress and not self.has_published else []
        return [*writes, self.write(self.snapshot(state, error=error))]

    # -- the publisher's side ------------------------------------------------------------------------

    def snapshot(self, state: TaskState = TaskState.PROGRESS, *, error: str | None = None) -> TaskEvent:
        """Return the newest state as an event that happens now."""
        self.is_changed = False
        self.error = error
        current, total = self._bounded_amounts()
        percent = self._overall_percent(current, total, state)
        rate = eta = None
        if not state.is_final and state is not TaskState.STARTED:  # it may start with units already done
            rate, eta = self._outlook(current, total, self._clock.monotonic())
        return self.tracked.event(
            state,
            at=self._clock.time(),
            error=error,
            current=current,
            total=total,
            percent=percent,
            message=self._text_of(self.message) if state.is_final or not self.notice else self.notice,
            rate=rate,
            eta=eta,
            started_at=self._started_at,
            data=sendable_data(self.data.copy(), self._config.max_data, self.warn_once),
        )

    def write(self, event: TaskEvent) -> TaskWrite:
        """Return the write that stores an event of this task."""
        return self.tracked.write(event, task_ttl=self._config.task_ttl, is_handed_over=self.is_handed_over)

    def _bounded_amounts(self) -> tuple[float, float | None]:
        """Return the newest valid amounts."""
        current, total = self._amounts
        self._amounts = bounded_amounts(self._newest_amount("current", current), self._newest_amount("total", total))
        return self._amounts

    def _newest_amount(self, name: str, last: float | None) -> Any:
        """Return ``current`` or ``total``; the last valid one replaces an invalid one, so that the next one is used."""
        given = getattr(self, name)
        try:
            return None if given is None else bounded_amounts(_number(given), None)[0]
        except Exception as exc:  # EventError, or any error of the application's objects
            self.warn_once("amount", exc)
            if getattr(self, name) is given:
                setattr(self, name, last)
            return last

    def _overall_percent(self, current: float, total: float | None, state: TaskState) -> float | None:
        """Return how far the whole task is. Within an attempt the bar never goes back."""
        percent = percent_of(current, total, state)
        if self._stages is not None and state is not TaskState.SUCCESS:
            percent = round(self._stages.bar.at(current / total if total else 0.0), 2)
        if percent is not None:
            percent = self._percent = max(percent, self._percent or 0.0)
        return percent

    def _outlook(self, current: float, total: float | None, now: float) -> tuple[float | None, float | None]:
        """Return the units per second, and the seconds left; each ``None`` until it is reliable."""
        rate = self._rate
        rate.add(current, now)
        if self._stages is not None:
            return rate.rate, self._staged_eta(self._stages, current / total if total else None, now)
        return rate.rate, rate.seconds_left(total - current) if total else None

    def _staged_eta(self, stages: Stages, fraction: float | None, now: float) -> float | None:
        pace, span = self._pace, stages.time
        done = max(span.at(fraction or 0.0), pace.amount)
        # A stage without a total counts only once it has ended.
        if fraction is not None or done > pace.amount:
            pace.add(done, now)
        if stages.is_open_ended:
            return None
        eta = pace.seconds_left(100.0 - done)
        if eta is None or fraction is not None:
            return eta
        return max(eta - (now - pace.at), pace.seconds_left(100.0 - max(span.end, done)) or 0.0)

    def _weight_of(self, weight: Any) -> float | None:
        try:
            return None if weight is None else float(_number(weight))
        except Exception as exc:
            raise_interruption(exc)
            self.warn_once("weight", exc)
            return None

    def _text_of(self, message: object) -> str:
        try:
            return text_for_users(str(message), MAX_MESSAGE_LENGTH)
        except Exception as exc:  # raised by an object of the application
            raise_interruption(exc)
            self.warn_once("message", exc)
            return ""

    def warn_once(self, what: str, reason: object) -> None:
        """Log once per part that the task continues without it."""
        if what not in self._warned and len(self._warned) < _MAX_WARNINGS:
            self._warned.add(what)
            logger.warning("task %s continues without its %s: %s", self.tracked.task_id, what, reason)

    def _warn_in_fork(self) -> None:
        if not _FORK_WARNINGS[self._number]:
            _FORK_WARNINGS[self._number] = 1
            logger.warning(
                "task %s: a forked process reports progress, which is not published; "
                "have it return its results, and report progress where the task runs",
                self.tracked.task_id,
            )


def _is_handling_cancel() -> bool:
    """Whether the calling code runs because of :class:`TaskCancelled`: in its ``except`` or ``finally``."""
    exc = sys.exc_info()[1]
    while exc is not None:
        if isinstance(exc, TaskCancelled):
            return True
        exc = exc.__cause__ or exc.__context__
    return False


def _number(value: Any) -> float:
    """Return any numeric value as an int or float, numpy's included; text and other types raise."""
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{value!r} is not a number")
    return operator.index(value) if hasattr(value, "__index__") else float(value)
