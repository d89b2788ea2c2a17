"""The state of one running task: written by the task, read by the publisher's thread."""

from __future__ import annotations

import json
import logging
import operator
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..config import Config
from ..errors import InvalidData
from ..events import TaskEvent, TaskState, bounded_amounts, encode, percent_of, shortened
from ..store import TaskWrite
from .identity import TaskIdentity
from .outbox import LogLine
from .rate import RateEstimator
from .stages import Stages

if TYPE_CHECKING:
    from .publisher import Publisher

logger = logging.getLogger(__name__)

#: Characters of a message; it travels with every event.
MAX_MESSAGE_LENGTH = 500


class RunningTask:
    """
    What a task has said of itself in this attempt.

    The task's threads only store into ``current``, ``total``, ``message`` and :attr:`data`, then look at
    ``is_changed``: no lock, for that is the hot path. The publisher clears the flag before it reads, so what is
    written while it reads is published next time, and the last word always is.
    """

    __slots__ = (
        "current",
        "total",
        "message",
        "data",
        "is_changed",
        "is_cancelled",
        "is_handed_over",
        "error",
        "notice",
        "due_at",
        "has_published",
        "has_ended",
        "will_retry",
        "failure",
        "tracked",
        "learned",
        "_publisher",
        "_config",
        "_started_at",
        "_rate",
        "_pace",
        "_stages",
        "_percent",
        "_amounts",
        "_complaints",
    )

    def __init__(self, tracked: TaskIdentity, publisher: Publisher, config: Config) -> None:
        self.current: float = 0
        self.total: float | None = None
        self.message = ""
        self.data: Mapping[str, Any] = {}
        self.is_changed = False
        self.is_cancelled = False
        self.is_handed_over = False
        #: The error that was told last.
        self.error: str | None = None
        #: Shown in place of the message as long as the task runs.
        self.notice = ""
        #: Monotonic seconds before which no further progress is published.
        self.due_at = 0.0
        #: Whether some progress has been published; it may be on its way when the attempt ends.
        self.has_published = False
        #: Whether the end of the attempt is told, after which it says nothing more.
        self.has_ended = False
        #: Whether its next attempt is published.
        self.will_retry = False
        #: What the user reads of the exception that its code has raised; ``None``: it has raised none.
        self.failure: str | None = None
        self.tracked = tracked
        #: Seconds that the stages of this task took in earlier runs.
        self.learned: Mapping[str, float] = {}
        self._publisher = publisher
        self._config = config
        self._started_at = time.time()
        #: Of units, and of percent of the time of all stages.
        self._rate, self._pace = RateEstimator(), RateEstimator()
        self._stages: Stages | None = None
        self._percent: float | None = None
        self._amounts: tuple[float, float | None] = (0, None)
        self._complaints: set[str] = set()

    # -- the task's side -----------------------------------------------------------------------------

    def mark_changed(self) -> None:
        """Have the newest state published: at once, or when ``min_interval`` has passed; see ``publisher.HOLD``."""
        self.is_changed = True
        self._publisher.changed(self)

    def add_data(self, data: Mapping[str, Any]) -> None:
        """Merge into the data, which is replaced as a whole, so that a reader never meets half of it."""
        self.data = {**self.data, **data}

    def begin_stage(self, name: str, *, weight: float | None, total: float | None) -> None:
        """End the stage before and begin another; ``weight`` is in percent, ``None`` for what was learned of it."""
        stages = self._stages or Stages(self.learned)
        name, weight = self._text_of(name), self._weight_of(weight)
        # In this order a reader in between sees less, which the guard in _overall_percent evens out.
        self.current, self.total, self.message = 0, total, name
        stages.begin(name, weight, time.monotonic())
        self._stages = stages
        # The publisher's thread may be reading the old ones.
        self._rate = RateEstimator()
        if not stages.is_learned:
            self._pace = RateEstimator()
        self.add_data({"stage": name})
        self.mark_changed()

    def end_stage(self) -> None:
        """Count the stage that runs as complete."""
        if self._stages is not None:
            self._stages.end(time.monotonic())
            self.mark_changed()

    def log(self, message: str, *, level: str, at: float) -> None:
        """Have a line of text published, as far as it is no longer than a message."""
        tracked = self.tracked
        text = self._text_of(message)
        self._publisher.submit_line(LogLine(tracked.user_id, tracked.task_id, text, self._text_of(level), at))

    def add_result(self, result: object) -> None:
        """Show what the task returned, if it has a JSON form, and room beside what else is shown."""
        try:
            self._encoded({**self.data, "result": result})
        except Exception as exc:
            self.warn_once("result", exc)
        else:
            self.add_data({"result": result})

    def finish(self, state: TaskState, *, error: str | None = None) -> None:
        """Have the end of the attempt published, with all that the task has said, and what is learned from it."""
        if self._stages is not None and state is TaskState.SUCCESS:
            self._publisher.learn(self.tracked.name, self._stages.lesson(time.monotonic()))
        self._publisher.finish(self.final_writes(state, error=error))

    def finish_now(self, state: TaskState, *, error: str | None = None) -> None:
        """Publish the end of the attempt before going on, for then it may be too late."""
        self._publisher.publish_now(self.final_writes(state, error=error))

    def hand_over(self) -> None:
        """Let another task that takes the place of this one go on with its bar. Twice does no harm."""
        if not self.is_handed_over:
            self.is_handed_over = True
            state = TaskState.PROGRESS if self.is_changed or self.due_at else TaskState.STARTED
            self._publisher.publish_now([self.write(self.snapshot(state))])

    def final_writes(self, state: TaskState, *, error: str | None = None) -> list[TaskWrite]:
        """
        What is to be published at the end of the attempt. A task that told its progress is seen to make some.

        From here on nothing else is: progress that waited for others, or for Redis, would come behind the end, with the
        broker's next delivery perhaps on its way.
        """
        self.has_ended = True
        self._publisher.forget(self)
        has_progress = self.is_changed or self.due_at > 0
        writes = [self.write(self.snapshot())] if has_progress and not self.has_published else []
        return [*writes, self.write(self.snapshot(state, error=error))]

    # -- the publisher's side ------------------------------------------------------------------------

    def snapshot(self, state: TaskState = TaskState.PROGRESS, *, error: str | None = None) -> TaskEvent:
        """The newest state as an event that happens now."""
        self.is_changed = False
        self.error = error
        current, total = self._bounded_amounts()
        percent = self._overall_percent(current, total, state)
        rate = eta = None
        if not state.is_final and state is not TaskState.STARTED:  # it may begin with what is done already
            rate, eta = self._outlook(current, total, time.monotonic())
        return self.tracked.event(
            state,
            error=error,
            current=current,
            total=total,
            percent=percent,
            message=self._text_of(self.message) if state.is_final or not self.notice else self.notice,
            rate=rate,
            eta=eta,
            started_at=self._started_at,
            data=self._sendable_data(),
        )

    def write(self, event: TaskEvent) -> TaskWrite:
        """What the store is to keep of an event of this task."""
        return self.tracked.write(event, task_ttl=self._config.task_ttl, is_handed_over=self.is_handed_over)

    def _bounded_amounts(self) -> tuple[float, float | None]:
        """What the task said last that makes a bar; a wrong amount is forgotten, so that the next one counts."""
        said_current, said_total = self.current, self.total
        try:
            current = bounded_amounts(_number(said_current), None)[0]
        except Exception as exc:  # EventError, or whatever an object of the application raises
            self.warn_once("amount", exc)
            current = self._amounts[0]
            if self.current is said_current:
                self.current = current
        try:
            total = None if said_total is None else bounded_amounts(0, _number(said_total))[1]
        except Exception as exc:
            self.warn_once("amount", exc)
            total = self._amounts[1]
            if self.total is said_total:
                self.total = total
        self._amounts = bounded_amounts(current, total)
        return self._amounts

    def _overall_percent(self, current: float, total: float | None, state: TaskState) -> float | None:
        """How far the whole task is. Within an attempt a bar never goes back, whatever the task says."""
        percent = percent_of(current, total, state)
        if self._stages is not None and state is not TaskState.SUCCESS:
            percent = round(self._stages.bar.at(current / total if total else 0.0), 2)
        if percent is not None:
            percent = self._percent = max(percent, self._percent or 0.0)
        return percent

    def _outlook(self, current: float, total: float | None, now: float) -> tuple[float | None, float | None]:
        """Units per second, and the seconds that are left; each ``None`` while it is a guess."""
        rate = self._rate
        rate.add(current, now)
        if self._stages is not None:
            return rate.rate, self._staged_eta(self._stages, current / total if total else None, now)
        return rate.rate, rate.seconds_left(total - current) if total else None

    def _staged_eta(self, stages: Stages, fraction: float | None, now: float) -> float | None:
        pace, span = self._pace, stages.time
        done = max(span.at(fraction or 0.0), pace.amount)
        # A stage without a total is seen as a whole when it has ended.
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
            self.warn_once("weight", exc)
            return None

    def _text_of(self, message: object) -> str:
        try:
            return shortened(str(message), MAX_MESSAGE_LENGTH)
        except Exception as exc:  # of an object of the application
            self.warn_once("message", exc)
            return ""

    def _sendable_data(self) -> Mapping[str, Any]:
        """A copy of the data that nobody changes any more, as JSON would have it; empty if it can't be sent."""
        data = self.data
        if not data:
            return {}
        try:
            copy: dict[str, Any] = json.loads(self._encoded(data))
        except Exception as exc:  # InvalidData, or a RuntimeError because the task changed a value meanwhile
            self.warn_once("data", exc)
            return {}
        return copy

    def _encoded(self, data: Mapping[str, Any]) -> str:
        text = encode(data)
        size = len(text.encode())
        if size > self._config.max_data:
            raise InvalidData(f"{size} bytes; {self._config.max_data} are allowed")
        return text

    def warn_once(self, what: str, exc: Exception) -> None:
        """Log, once for each part, that the task goes on without it."""
        if what not in self._complaints:
            self._complaints.add(what)
            logger.warning("task %s goes on without its %s: %s", self.tracked.task_id, what, exc)


def _number(value: Any) -> float:
    """An int or float for whatever counts as one, such as numpy's; text and the like raise."""
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{value!r} is no number")
    return operator.index(value) if hasattr(value, "__index__") else float(value)
