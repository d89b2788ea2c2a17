"""The thread that publishes what the tasks of a process say, so that no task ever waits for Redis."""

from __future__ import annotations

import atexit
import logging
import math
import queue
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from ..config import Config
from ..errors import CommandRefused, StoreError, TaskNotFound
from ..events import TaskState
from ..store import Published, Store, TaskWrite
from ..store.forks import register_after_fork
from .circuit_breaker import CircuitBreaker
from .outbox import Batch, Ending, LogLine, Outbox, StageDurations
from .running_task import RunningTask
from .threads import kept_alive

if TYPE_CHECKING:
    from .metrics import PublishMetrics

logger = logging.getLogger(__name__)

#: Events in one round trip: few enough to be done well within ``publish_timeout``.
BATCH_SIZE = 200
#: Part of ``min_interval`` for which progress waits after other progress, so that it goes in one round trip with what
#: else comes meanwhile; and the most that this may be, in seconds.
HOLD = 0.1
MAX_HOLD = 0.02
#: Tasks whose last ``seq`` is remembered.
MAX_SEQS = 10_000


class Publisher:
    """
    Publishes for one process. Its thread starts with the first event, and anew in the child of a fork.

    The task's side only hands over; :meth:`publish_now` is the one call that waits, for ``publish_timeout`` seconds
    at most, and only while Redis is believed to answer.
    """

    def __init__(self, store: Store, config: Config, on_cancelled: Callable[[str], None]) -> None:
        """
        Args:
            store: Where to publish.
            config: The settings.
            on_cancelled: Gets the id of a task when a reply says that its end was asked for.
        """
        self._store = store
        # For the thread, which can wait longer than a task may: as long as the end of a process would for it.
        patience = max(config.publish_timeout, config.flush_timeout)
        self._patient_store = Store(replace(config, publish_timeout=patience))
        self._config = config
        self._on_cancelled = on_cancelled
        self._metrics = _metrics_of(config)
        self.begin()
        register_after_fork(self)
        atexit.register(_flush_at_exit, weakref.ref(self))

    def begin(self) -> None:
        """Start from nothing: in the child of a fork locks may be held, and what waits is the parent's to send."""
        for task in (*getattr(self, "_changed", ()), *getattr(self, "_taken", Batch()).changed):
            task.is_changed = False  # else it would not say that it has changed again
        #: Guards all that follows. Taken as it is: within the methods of a condition a time limit may leave it held.
        self._lock = threading.RLock()
        #: Tells :meth:`flush` that all is published.
        self._condition = threading.Condition(self._lock)
        #: Wakes the thread. Not the condition, which is Python code and makes a lock for each time that it waits. Rung
        #: under our lock it costs no change of threads, for who hears it needs the interpreter's first.
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        #: Until when the thread sleeps, in monotonic seconds: for what is due later nobody needs to wake it.
        self._sleeps_until = -math.inf
        self._thread: threading.Thread | None = None
        self._outbox = Outbox()
        #: What the thread has taken out of the outbox, and has not published yet.
        self._taken = Batch()
        self._changed: set[RunningTask] = set()
        #: When the next progress may go by itself, in monotonic seconds; what comes until then goes with it.
        self._next_at = -math.inf
        #: Workflows (user id, task id) that told something a moment ago and have more to tell, and when they may.
        self._untold: dict[tuple[str, str], float] = {}
        self._seqs: OrderedDict[str, int] = OrderedDict()
        self._breaker = CircuitBreaker(self._config.retry_interval)
        self._is_busy = False
        self._is_flushing = False

    # -- the tasks' side -----------------------------------------------------------------------------

    def changed(self, task: RunningTask) -> None:
        """A running task has something new to say; one that has ended says nothing more."""
        with self._lock:
            if not task.has_ended:
                self._changed.add(task)
                self._wake(max(task.due_at, self._next_at))

    def submit(self, write: TaskWrite) -> None:
        """Publish an event soon."""
        with self._lock:
            self._outbox.add(write, only_newest=self._breaker.is_open)
            self._wake()

    def tell_workflow(self, user_id: str, task_id: str, *, delay: float = 0.0) -> None:
        """Have a workflow tell what it has left to tell, in so many seconds."""
        with self._lock:
            self._untold.setdefault((user_id, task_id), time.monotonic() + delay)
            self._wake()

    def submit_ending(self, ending: Ending) -> None:
        """Publish the end of a task that runs elsewhere, with the progress that the store knows of."""
        with self._lock:
            self._outbox.add_ending(ending)
            self._wake()

    def submit_line(self, line: LogLine) -> None:
        """Publish a line of text soon; nothing is kept while Redis is away."""
        if not self._breaker.is_open:
            with self._lock:
                self._outbox.add_line(line)
                self._wake()

    def learn(self, task_name: str, seconds: Mapping[str, float]) -> None:
        """Keep how long the stages of a task took; not while Redis is away, there will be other runs."""
        if seconds and not self._breaker.is_open:
            with self._lock:
                self._outbox.add_lesson(StageDurations(task_name, seconds))
                self._wake()

    def start(self, task: RunningTask) -> None:
        """
        Publish that a task has started before going on; the way back brings what is known of its stages.

        The task is cancelled if somebody asked for that while it waited.
        """
        write = task.write(task.snapshot(TaskState.STARTED))
        if not self._breaker.is_open:
            try:
                with self._timing():
                    result, task.learned = self._store.start(write, self._seqs)
                self._heed(write, result)
                return
            except StoreError as exc:
                self._breaker.failed(exc)
        self.submit(write)

    def publish_now(self, writes: Sequence[TaskWrite]) -> Published | None:
        """
        Publish events of one task before going on.

        Returns:
            What became of the last; ``None`` if Redis did not answer, now or the last time: then they are published
            later.
        """
        if not self._breaker.is_open:
            try:
                return self._send(writes, self._store)[-1]
            except StoreError as exc:
                self._breaker.failed(exc)
        for write in writes:
            self.submit(write)
        return None

    def end_now(self, ending: Ending) -> None:
        """Publish the end of a task that runs elsewhere before going on; later, if Redis does not answer."""
        if not self._breaker.is_open:
            try:
                self._end(ending, self._store)
                return
            except StoreError as exc:
                self._breaker.failed(exc)
        self.submit_ending(ending)

    def forget(self, task: RunningTask) -> None:
        """A running task has nothing more to say but what others publish of it."""
        with self._lock:
            self._changed.discard(task)

    def finish(self, writes: Sequence[TaskWrite]) -> None:
        """Publish the last events of an attempt soon; they tell all that the task had not published yet."""
        with self._lock:
            for write in writes:
                self._outbox.add(write, only_newest=self._breaker.is_open)
            self._wake()

    def flush(self) -> bool:
        """
        Wait until all is published, for ``flush_timeout`` seconds at most; what is not then is given up.

        Returns:
            Whether all is.
        """
        with self._lock:
            if self._is_idle():
                return True
            self._ensure_thread()
            self._is_flushing = True
            self._bell.put(None)
            is_done = self._condition.wait_for(self._is_idle, self._config.flush_timeout)
            self._is_flushing = False
            if not is_done:
                logger.warning("the process ends before its last progress could be published")
                self._outbox, self._taken = Outbox(), Batch()
                self._changed.clear()
                self._untold.clear()
            return is_done

    def _wake(self, due_at: float = -math.inf) -> None:
        """Have the thread look at what was handed over, with the lock held: now, or when it is due."""
        self._ensure_thread()
        if self._sleeps_until > due_at:
            # In this order: a signal's handler may raise in between, and then it rings once more, not never again.
            self._bell.put(None)
            self._sleeps_until = -math.inf

    def _ensure_thread(self) -> None:
        self._thread = kept_alive(self._thread, self._run, "jobpush-publisher")

    def _is_idle(self) -> bool:
        return not (self._outbox or self._changed or self._untold or self._is_busy)

    # -- the thread's side ---------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                self._publish_left()
                self._publish_next()
            except BaseException:  # a bug of ours, or an object of a task: whatever it is, all others must go on
                logger.exception("progress could not be published")

    def _publish_next(self) -> None:
        """Wait until something is to be published, and try to."""
        batch, pause = self._take_batch()
        while batch is None:
            with suppress(queue.Empty):  # nobody has rung, but it is time
                self._bell.get(timeout=pause)
            batch, pause = self._take_batch()
        if not self._publish(batch):
            self._put_back(batch)
        self._taken = Batch()

    def _take_batch(self) -> tuple[Batch | None, float | None]:
        """What is to be published now; if that is nothing, for how many seconds to sleep at most."""
        with self._lock:
            now = time.monotonic()
            due_at = self._due_at(now)
            self._is_busy = due_at <= now
            if not self._is_busy:
                self._sleeps_until = due_at
                self._condition.notify_all()  # for flush()
                return None, None if due_at == math.inf else due_at - now
            batch = self._taken = self._outbox.take(BATCH_SIZE)
            batch.changed, batch.untold = self._take_due(now), self._take_untold(now)
            return batch, None

    def _publish_left(self) -> None:
        """
        Publish what was left of a batch that could not be published, one thing after the other.

        What can't be published then is to blame, and is lost, but nothing else. It may be a thread that has died which
        left it.
        """
        while self._taken:
            one = self._taken.take_one()
            if not self._publish(one):
                self._put_back(one, self._taken)
                self._taken = Batch()

    def _due_at(self, now: float) -> float:
        """When something is to be sent, in monotonic seconds; infinity: when there is something new."""
        if self._breaker.is_open:
            return now + self._breaker.seconds_to_wait()
        if self._outbox or (self._is_flushing and (self._changed or self._untold)):
            return now
        progress_at = min((task.due_at for task in self._changed), default=math.inf)
        return min((max(progress_at, self._next_at), *self._untold.values()))

    def _take_due(self, now: float) -> list[RunningTask]:
        due = [task for task in self._changed if self._is_flushing or task.due_at <= now]
        if due:
            self._changed.difference_update(due)
            self._next_at = now + min(HOLD * self._config.min_interval, MAX_HOLD)
            for task in due:
                task.due_at = now + self._config.min_interval
        return due

    def _take_untold(self, now: float) -> list[tuple[str, str]]:
        due = [workflow for workflow, due_at in self._untold.items() if self._is_flushing or due_at <= now]
        for workflow in due:
            del self._untold[workflow]
        return due

    def _publish(self, batch: Batch) -> bool:
        """
        Publish all of a batch, and take out of it what is published.

        Returns:
            Whether all is; else Redis has failed, and the batch holds what is to wait until it is back.

        Raises:
            CommandRefused: If something of it is to blame, and would be refused for ever.
        """
        writes = [*batch.writes, *_snapshots(batch.changed)]
        store = self._patient_store
        try:
            was_open = self._breaker.is_open
            is_slow = was_open and self._is_slow()
            while writes:
                self._send(writes[:BATCH_SIZE], store)
                for write in writes[:BATCH_SIZE]:
                    if write.plan is not None:  # its members may have ended before anybody knew of it
                        self.tell_workflow(write.user_id, write.event.task_id)
                del writes[:BATCH_SIZE], batch.writes[:BATCH_SIZE]
            for task in batch.changed:
                task.has_published = True
            batch.changed.clear()
            while batch.endings:
                self._end(batch.endings[0], store)
                del batch.endings[0]
            if batch.untold:
                for user_id, task_id in store.tell_workflows(batch.untold, is_urgent=self._is_flushing):
                    self.tell_workflow(user_id, task_id, delay=self._config.min_interval)
                batch.untold.clear()
            while batch.lines:
                line = batch.lines[0]
                store.log(line.user_id, line.task_id, line.message, level=line.level, at=line.at)
                del batch.lines[0]
            while batch.lessons:
                store.learn(batch.lessons[0].task_name, batch.lessons[0].seconds)
                del batch.lessons[0]
            if is_slow:
                self._breaker.still_slow()
            elif was_open:  # else somebody may have opened it meanwhile, and knows why
                self._store.client.reconnect()  # before anybody waits for a connection that died in the meantime
                self._breaker.succeeded()
            self._tell_what_was_dropped()
        except CommandRefused:
            raise
        except StoreError as exc:
            self._breaker.failed(exc)
            return False
        return True

    def _put_back(self, *batches: Batch) -> None:
        """Let what was not published, and is worth it, wait for Redis; in this order, for of a task the last counts."""
        writes = [write for batch in batches for write in (*batch.writes, *_snapshots(batch.changed))]
        with self._lock:
            self._outbox.put_back(writes, [ending for batch in batches for ending in batch.endings])
            for workflow in (one for batch in batches for one in batch.untold):
                self._untold.setdefault(workflow, 0.0)

    def _is_slow(self) -> bool:
        """Whether Redis takes what it is given, but not within the time that anybody waits."""
        begun = time.monotonic()
        self._patient_store.probe()
        return time.monotonic() - begun > self._config.publish_timeout

    def _tell_what_was_dropped(self) -> None:
        with self._lock:
            dropped, self._outbox.dropped = self._outbox.dropped, 0
        if dropped:
            if self._metrics is not None:
                self._metrics.lost(dropped)
            logger.warning("the newest state of %d tasks was lost: too many waited for Redis", dropped)

    def _end(self, ending: Ending, store: Store) -> None:
        """Tell the end of a task that is tracked; of one that the store does not know, as its message describes it."""
        try:
            store.end(ending.task_id, ending.state, error=ending.error, delivery=ending.delivery, run_at=ending.run_at)
        except TaskNotFound:
            if ending.tracked is not None:
                event = ending.tracked.event(ending.state, error=ending.error)
                self._send([TaskWrite(ending.tracked.user_id, event, pinned=True)], store)

    def _send(self, writes: Sequence[TaskWrite], store: Store) -> list[Published]:
        """Publish in one round trip, and heed what the replies say of each task."""
        if not writes:
            return []
        with self._timing():
            results = store.publish(writes, self._seqs)
        for write, result in zip(writes, results, strict=True):
            self._heed(write, result)
        return results

    def _timing(self) -> AbstractContextManager[None]:
        return nullcontext() if self._metrics is None else self._metrics.timing()

    def _heed(self, write: TaskWrite, result: Published) -> None:
        task_id = write.event.task_id
        with self._lock:
            self._seqs[task_id] = max(result.seq, self._seqs.get(task_id, 0))
            self._seqs.move_to_end(task_id)
            while len(self._seqs) > MAX_SEQS:
                self._seqs.popitem(last=False)
        if result.has_untold_workflow and write.event.root_id is not None:
            self.tell_workflow(write.user_id, write.event.root_id, delay=self._config.min_interval)
        if result.is_cancelled:
            self._on_cancelled(task_id)


def _metrics_of(config: Config) -> PublishMetrics | None:
    if not config.worker_metrics:
        return None
    from .metrics import publish_metrics  # which costs time at the start of a worker that has no use for it

    return publish_metrics()


def _snapshots(tasks: Sequence[RunningTask]) -> Iterator[TaskWrite]:
    """What is new of running tasks; what goes wrong with one of them is no reason to forget the others."""
    for task in tasks:
        try:
            yield task.write(task.snapshot())
        except BaseException:  # an object of the application may raise anything, and it is not its own thread
            logger.exception("the progress of task %s could not be published", task.tracked.task_id)


def _flush_at_exit(reference: weakref.ref[Publisher]) -> None:
    publisher = reference()
    if publisher is not None:
        publisher.flush()
