"""The publisher of a process: tasks hand over events, and one thread sends them, so no task waits for Redis."""

from __future__ import annotations

import atexit
import logging
import math
import queue
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from ..config import Config
from ..errors import CommandRefused, StoreError
from ..events import TaskState
from ..store import Published, Store, TaskWrite
from ..store.forks import register_after_fork
from ..store.redis.errors import ShardUnavailable
from .circuit_breaker import CircuitBreaker
from .outbox import Outbox
from .records import Batch, Ending, StageDurations
from .running_task import RunningTask
from .schedule import Schedule
from .sender import Sender, progress_writes
from .threads import kept_alive

logger = logging.getLogger(__name__)

#: Tasks of a failing primary of a cluster that one retry tries: the events of other primaries must not wait for all.
_RETRIED_AT_ONCE = 100


class Publisher:
    """
    Publishes for one process. Its thread starts with the first event, and again in a forked child. Tasks only hand over
    events. The calls that end in ``_now``, and :meth:`start`, wait for Redis: for ``publish_timeout`` seconds at most,
    and only while Redis is known to answer.
    """

    def __init__(self, store: Store, config: Config, on_cancelled: Callable[[str], None]) -> None:
        """
        Args:
            store: Where to publish.
            config: The settings.
            on_cancelled: Receives the id of a task when a reply reports that it has been cancelled.
        """
        self._config = config
        self._sender = Sender(store, config, on_cancelled=on_cancelled, on_workflow=self.publish_workflow)
        self._reset()
        register_after_fork(self)
        atexit.register(_flush_at_exit, weakref.ref(self))

    def reset_after_fork(self) -> None:
        """Start from nothing in a forked child: locks may be held, and the parent sends what is queued."""
        self._sender.reset_after_fork()
        self._reset()

    def _reset(self) -> None:
        #: Guards all attributes below. Not a condition: a time limit raised within its methods could leave the lock
        #: held.
        self._lock = threading.RLock()
        #: Signals :meth:`flush` that everything is published.
        self._condition = threading.Condition(self._lock)
        #: Wakes the thread. Not the condition, which is Python code and creates a lock for each wait. Signalling under
        #: the lock causes no extra context switch: the waiter still needs the GIL.
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        #: Until when the thread sleeps, in monotonic seconds: later events need not wake it.
        self._sleeps_until = -math.inf
        self._thread: threading.Thread | None = None
        self._schedule = Schedule(self._config.min_interval)
        #: The batch that the thread has taken from the schedule and not yet published.
        self._taken = Batch()
        #: What waits for an unreachable primary of a cluster while others answer, and when to retry it, in monotonic
        #: seconds; infinity: all primaries answer.
        self._parked = Outbox()
        self._retry_at = math.inf
        self._breaker = CircuitBreaker(self._config.retry_interval)
        #: When Redis failed first, in monotonic seconds; ``None``: it answers.
        self._lost_at: float | None = None
        self._is_busy = False
        self._is_flushing = False
        self._is_closed = False

    def close(self) -> None:
        """End the thread without publishing what is left; see :meth:`flush`."""
        with self._lock:
            self._is_closed = True
            self._bell.put(None)
            self._condition.notify_all()

    # -- the tasks' side -----------------------------------------------------------------------------

    def changed(self, task: RunningTask) -> None:
        """Publish the progress of a running task when it is due; nothing once the task has ended."""
        with self._lock:
            if not task.has_ended:
                self._wake(self._schedule.add_changed(task))

    def submit(self, *writes: TaskWrite) -> None:
        """Publish events soon."""
        with self._lock:
            for write in writes:
                self._schedule.outbox.add(write, only_newest=self._breaker.is_open)
            self._wake()

    def publish_workflow(self, user_id: str, task_id: str, delay: float = 0.0) -> None:
        """Publish the changes of a workflow's members, after this many seconds."""
        with self._lock:
            self._schedule.add_workflow((user_id, task_id), time.monotonic() + delay)
            self._wake()

    def submit_ending(self, ending: Ending) -> None:
        """Publish the end of a task of another process soon, with the stored progress."""
        with self._lock:
            self._schedule.outbox.add_ending(ending)
            self._wake()

    def lines_added(self, task: RunningTask) -> None:
        """Publish the lines of text of a task when they are due."""
        with self._lock:
            now = time.monotonic()
            due_at = max(now, task.lines_due_at)
            task.lines_due_at = due_at + self._config.min_interval
            self._schedule.add_log(task, due_at)
            if self._breaker.is_open:
                self._schedule.bound_logs()
            self._wake(due_at)

    def record_durations(self, task_name: str, seconds: Mapping[str, float]) -> None:
        """Record how long the stages of a task took; skipped while Redis does not answer, since other runs follow."""
        if seconds and not self._breaker.is_open:
            with self._lock:
                self._schedule.outbox.add_durations(StageDurations(task_name, seconds))
                self._wake()

    def start(self, task: RunningTask) -> None:
        """
        Publish that a task has started, and wait for it; the reply has the known durations of its stages.

        The task is cancelled if that was requested while it waited.
        """
        write = task.write(task.snapshot(TaskState.STARTED))
        if not self._breaker.is_open:
            try:
                task.known_durations = self._sender.start(write)
                return
            except StoreError as exc:
                self._fail(exc)
        self.submit(write)

    def publish_now(self, writes: Sequence[TaskWrite]) -> Published | None:
        """
        Publish events of one task, and wait for it.

        Returns:
            The result of the last one; ``None`` if there is none, or if Redis does not answer: then they are published
            later.
        """
        if writes and not self._breaker.is_open:
            try:
                return self._sender.send(writes)[-1]
            except StoreError as exc:
                self._fail(exc)
        self.submit(*writes)
        return None

    def end_now(self, ending: Ending) -> None:
        """Publish the end of a task of another process, and wait for it; later, if Redis does not answer."""
        if not self._breaker.is_open:
            try:
                self._sender.end(ending)
                return
            except StoreError as exc:
                self._fail(exc)
        self.submit_ending(ending)

    def resend_final_writes(self, lost_at: float) -> None:
        """Send again the final states that a failover may have lost, soon; ``lost_at`` in monotonic seconds."""
        with self._lock:
            self._lost_at = lost_at if self._lost_at is None else min(lost_at, self._lost_at)
            self._wake()

    def flush(self) -> bool:
        """
        Wait until everything is published, at most ``flush_timeout`` seconds; then drop the rest.

        Returns:
            Whether everything is published.
        """
        with self._lock:
            if self._is_closed or self._is_idle():
                return self._is_idle()
            self._ensure_thread()
            self._is_flushing = True
            self._bell.put(None)
            self._condition.wait_for(lambda: self._is_closed or self._is_idle(), self._config.flush_timeout)
            is_done = self._is_idle()
            self._is_flushing = False
            if not is_done:
                logger.warning("the process ends before its last progress could be published")
                self._schedule, self._taken, self._parked = Schedule(self._config.min_interval), Batch(), Outbox()
            return is_done

    def _wake(self, due_at: float = -math.inf) -> None:
        """Wake the thread, with the lock held: now, or when the new event is due."""
        self._ensure_thread()
        if self._sleeps_until > due_at:
            # In this order: if a signal handler raises in between, the thread is woken once more, and never too rarely.
            self._bell.put(None)
            self._sleeps_until = -math.inf

    def _ensure_thread(self) -> None:
        self._thread = kept_alive(self._thread, self._run, "jobpush-publisher")

    def _is_idle(self) -> bool:
        return not (self._schedule or self._parked or self._sender.has_left or self._is_busy)

    def _fail(self, exc: StoreError) -> None:
        if self._lost_at is None:
            self._lost_at = time.monotonic()
        if not isinstance(exc, ShardUnavailable):  # the others answer
            self._breaker.failed(exc)

    # -- the thread's side ---------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._is_closed:
            try:
                self._publish_left()
                self._publish_next()
            except BaseException:  # a bug, or an object of a task raised: the other tasks must continue
                logger.exception("progress could not be published")

    def _publish_next(self) -> None:
        """Wait until something is due, and try to publish it."""
        batch, pause = self._take_batch()
        while batch is None:
            with suppress(queue.Empty):  # nothing new, but something is due
                self._bell.get(timeout=pause)
            if self._is_closed:
                return
            batch, pause = self._take_batch()
        if not self._publish(batch):
            self._put_back(batch)
        self._taken = Batch()

    def _take_batch(self) -> tuple[Batch | None, float | None]:
        """Return the records that are due; if there are none, the longest time to sleep in seconds."""
        with self._lock:
            now = time.monotonic()
            due_at = self._due_at(now)
            self._is_busy = due_at <= now
            if not self._is_busy:
                self._sleeps_until = due_at
                self._condition.notify_all()  # for flush()
                return None, None if due_at == math.inf else due_at - now
            if self._retry_at <= now:
                self._schedule.outbox.put_back(*self._parked.take_some(_RETRIED_AT_ONCE))
            batch = self._taken = self._schedule.take(now, is_urgent=self._is_flushing)
            newer = [*(write.event.task_id for write in batch.writes), *(one.tracked.task_id for one in batch.changed)]
            self._parked.discard(newer)
            return batch, None

    def _due_at(self, now: float) -> float:
        if self._breaker.is_open:
            return now + self._breaker.seconds_to_wait()
        if self._lost_at is not None and self._retry_at == math.inf:
            return now
        return min(self._retry_at, self._schedule.due_at(is_urgent=self._is_flushing))

    def _publish_left(self) -> None:
        """
        Publish the rest of a failed batch, one record after the other.

        A record that fails alone is dropped, and no other. The batch may also be left by a thread
        that has died.
        """
        while self._taken:
            one = self._taken.take_one()
            if not self._publish(one):
                self._put_back(one, self._taken)
                self._taken = Batch()

    def _publish(self, batch: Batch) -> bool:
        """
        Publish all of a batch, and remove from it what is published.

        Returns:
            Whether all is published; else Redis has failed, and the batch holds what is to wait until it is back.

        Raises:
            CommandRefused: If a record is to blame, and would be refused again.
        """
        waiting = Batch()
        try:
            begun = time.monotonic()
            was_open = self._breaker.is_open
            is_slow = was_open and self._sender.is_slow()
            self._sender.send_batch(batch, waiting, is_urgent=self._is_flushing)
            self._complete(begun, waiting)
            if is_slow:
                self._breaker.still_slow()
            elif was_open:  # else somebody may have opened it meanwhile, with a reason
                self._sender.reconnect()  # before a caller waits for a connection that died in the meantime
                self._breaker.succeeded()
            self._report_drops()
        except CommandRefused:
            raise
        except StoreError as exc:
            self._fail(exc)
            return False
        finally:
            self._park(waiting)
        return True

    def _complete(self, reached_at: float, waiting: Batch) -> None:
        """Publish what failovers may have lost, once all primaries of a cluster answer."""
        has_failed = bool(waiting)
        if not has_failed and reached_at < self._retry_at < math.inf:
            return
        if not has_failed and self._parked:  # those that were retried are published: go on at once
            self._retry_at = reached_at
            return
        is_complete = False
        if not has_failed and not self._sender.is_degraded():
            with suppress(ShardUnavailable):
                self._sender.send_left()
                self._resend_after_reconnect(reached_at)
                is_complete = True
        if is_complete and self._retry_at < math.inf:
            logger.warning("all of the Redis Cluster works again")
        elif not is_complete and self._retry_at == math.inf:
            logger.warning(
                "a part of the Redis Cluster fails, the progress of its tasks waits: %s", self._sender.outage
            )
            self._lost_at = reached_at if self._lost_at is None else self._lost_at
        if is_complete:
            self._retry_at = math.inf
        elif not reached_at < self._retry_at < math.inf:
            self._retry_at = time.monotonic() + self._config.retry_interval

    def _park(self, waiting: Batch) -> None:
        """Keep what waits for an unreachable primary of a cluster until the next retry; of a task the last record."""
        if not waiting:
            return
        with self._lock:
            if self._retry_at == math.inf:
                self._retry_at = time.monotonic() + self._config.retry_interval
            for write in waiting.writes:
                self._parked.add(write, only_newest=True)
            for ending in waiting.endings:
                self._parked.add_ending(ending)
            for task in waiting.changed:
                task.due_at = self._retry_at
                if not task.has_ended:
                    self._schedule.add_changed(task)
            for task in waiting.logs:
                task.has_lines = True
                self._schedule.add_log(task, self._retry_at)
            self._schedule.bound_logs()

    def _resend_after_reconnect(self, reached_at: float) -> None:
        if self._sender.has_reconnected() and self._lost_at is None:
            self._lost_at = reached_at
        if self._lost_at is not None:
            self._sender.resend_final_writes(self._lost_at, reached_at)
            self._lost_at = None

    def _put_back(self, *batches: Batch) -> None:
        """Keep what was not published and is worth it until Redis is back; of a task the last record counts."""
        writes = [write for batch in batches for write in (*batch.writes, *progress_writes(batch.changed))]
        with self._lock:
            self._schedule.outbox.put_back(writes, [ending for batch in batches for ending in batch.endings])
            for batch in batches:
                for workflow in batch.workflows:
                    self._schedule.add_workflow(workflow, 0.0)
                for task in batch.logs:
                    task.has_lines = True
                    self._schedule.add_log(task, 0.0)
            self._schedule.bound_logs()

    def _report_drops(self) -> None:
        with self._lock:
            dropped = self._schedule.outbox.dropped + self._parked.dropped
            self._schedule.outbox.dropped = self._parked.dropped = 0
        if dropped:
            if self._sender.metrics is not None:
                self._sender.metrics.lost(dropped)
            logger.warning("the newest state of %d tasks was lost: too many waited for Redis", dropped)


def _flush_at_exit(reference: weakref.ref[Publisher]) -> None:
    publisher = reference()
    if publisher is not None:
        publisher.flush()
