"""Sends records to Redis, and applies its replies."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..config import Config
from ..errors import CommandRefused, StoreError, TaskNotFound
from ..events import END_EVENT, TaskEvent, is_safe_url
from ..store import Published, Store, TaskWrite
from ..store.records import Outcome
from ..store.redis.errors import ShardUnavailable
from ..store.scripts import Call, Command, Request
from .final_writes import FinalWrites
from .records import Batch, Ending, StageDurations
from .running_task import RunningTask
from .schedule import BATCH_SIZE

if TYPE_CHECKING:
    from .worker_metrics import PublishMetrics

logger = logging.getLogger(__name__)

#: Tasks with a remembered ``seq``.
MAX_SEQS = 10_000
#: Owners and claims that wait for their primary; beyond that the oldest are dropped. Later events repeat the owners.
_MAX_LEFT = 10_000


class Sender:
    """
    The round trips of one publisher. Raises :class:`~jobpush.StoreError`, and keeps nothing that could not be sent but
    the owners and claims of published tasks, which may be on another primary of a cluster than the tasks.

    Args:
        store: For callers that wait at most ``publish_timeout``.
        config: The settings.
        on_cancelled: Receives the id of a task that has been cancelled, as a reply reports.
        on_workflow: Receives the user id and task id of a workflow that has more to publish, and the delay in seconds.
    """

    def __init__(
        self,
        store: Store,
        config: Config,
        *,
        on_cancelled: Callable[[str], None],
        on_workflow: Callable[[str, str, float], None],
    ) -> None:
        self._store = store
        self._config = config
        # The publisher's thread may wait as long as a process waits for it at exit.
        self.patient_store = Store(replace(config, publish_timeout=max(config.publish_timeout, config.flush_timeout)))
        self._on_cancelled = on_cancelled
        self._on_workflow = on_workflow
        self.metrics: PublishMetrics | None = None
        if config.worker_metrics:
            from .worker_metrics import publish_metrics  # it slows down the start of workers

            self.metrics = publish_metrics()
        self._timing: Callable[[], AbstractContextManager[None]] = self.metrics.timing if self.metrics else nullcontext
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Forget what the parent process has sent."""
        self._lock = threading.Lock()
        #: The last ``seq`` of each task, from which Redis continues if it returns empty; the newest event comes last.
        self.seqs: OrderedDict[str, int] = OrderedDict()
        self.final_writes = FinalWrites()
        self._connects = 0
        #: Requests for :meth:`send_left`, by their words; the oldest first. Guarded by the lock.
        self._left: dict[Command, Request] = {}

    def send(self, writes: Sequence[TaskWrite], store: Store | None = None) -> list[Published]:
        """
        Store and publish events in one round trip.

        Args:
            writes: The events.
            store: Another store than the one of waiting callers.

        Raises:
            ShardUnavailable: If a primary of a cluster is unreachable; the events on the others are published.
        """
        results: list[Published] = []
        for result in self._send_each(writes, store or self._store):
            if isinstance(result, ShardUnavailable):
                raise result
            results.append(result)
        return results

    def _send_each(self, writes: Sequence[TaskWrite], store: Store) -> list[Published | ShardUnavailable]:
        if not writes:
            return []
        with self._timing():
            results, left = store.publish_each(writes, self.seqs)
        self._keep(left)
        for write, result in zip(writes, results, strict=True):
            if not isinstance(result, ShardUnavailable):
                self._apply_reply(write, result)
        return results

    def _keep(self, left: Sequence[Request]) -> None:
        if not left:
            return
        with self._lock:
            for request in left:
                words = request.command() if isinstance(request, Call) else request
                self._left.pop(words, None)
                self._left[words] = request
            while len(self._left) > _MAX_LEFT:
                del self._left[next(iter(self._left))]

    @property
    def has_left(self) -> bool:
        """Whether owners or claims of published tasks wait for their primary."""
        return bool(self._left)

    def send_left(self) -> None:
        """
        Send the owners and claims of published tasks that an unreachable primary did not get.

        Raises:
            ShardUnavailable: If it is still unreachable.
        """
        with self._lock:
            left, self._left = list(self._left.values()), {}
        if left:
            try:
                self.patient_store.run(left)
            except StoreError:
                self._keep(left)
                raise

    def start(self, write: TaskWrite) -> dict[str, float]:
        """Publish that a task starts; return the seconds that its stages took in earlier runs."""
        with self._timing():
            result, durations, left = self._store.start(write, self.seqs)
        self._keep(left)
        self._apply_reply(write, result)
        return durations

    def end(self, ending: Ending, store: Store | None = None) -> None:
        """Publish the end of a tracked task. An unknown one is stored as its message describes it."""
        store, tracked = store or self._store, ending.tracked
        user_id = ending.user_id or (tracked.user_id if tracked is not None else None)
        try:
            result = store.end(
                ending.task_id,
                ending.state,
                error=ending.error,
                delivery=ending.delivery,
                run_at=ending.run_at,
                user_id=user_id,
            )
        except TaskNotFound:
            if tracked is None:
                return
            event = tracked.event(ending.state, error=ending.error)
            self.send([TaskWrite(tracked.user_id, event, pinned=True)], store)
        else:
            if ending.notifies_end and ending.state.is_final and result.outcome is Outcome.STORED:
                self._keep_end(ending.task_id, user_id)
        if ending.state.is_final:
            self.final_writes.add(ending)

    def send_batch(self, batch: Batch, waiting: Batch, *, is_urgent: bool) -> None:
        """
        Publish a batch, and remove what is published from it.

        Args:
            batch: The records.
            waiting: Gets the records that have to wait for a primary of a cluster that fails, while others work.
            is_urgent: Whether workflows that were published a moment ago are published too.

        Raises:
            StoreError: If Redis fails. The batch keeps the records to retry.
            CommandRefused: If Redis refuses a record of the batch, and would refuse it again.
        """
        if batch.writes or batch.changed:
            self._send_events(batch, waiting)
        one_by_one: tuple[tuple[list[Any], list[Any], Callable[[Any, Store], None]], ...] = (
            (batch.endings, waiting.endings, self.end),
            (batch.logs, waiting.logs, self._append_log),
            (batch.durations, [], self._record_durations),  # they do not wait: other runs follow
        )
        for records, waits, send in one_by_one:
            while records:
                try:
                    send(records[0], self.patient_store)
                except ShardUnavailable:
                    waits.append(records[0])
                del records[0]
        if batch.workflows:
            self._publish_workflows(batch.workflows, is_urgent=is_urgent)

    def _send_events(self, batch: Batch, waiting: Batch) -> None:
        """Send the writes, and the progress of running tasks in the same round trips."""
        writes = [*batch.writes, *(progress_writes(batch.changed) if batch.changed else ())]
        unpublished: set[str] = set()
        while writes:
            some = writes[:BATCH_SIZE]
            for number, (write, result) in enumerate(zip(some, self._send_each(some, self.patient_store), strict=True)):
                if isinstance(result, ShardUnavailable):
                    waiting.writes += [write] if number < len(batch.writes) else []
                    unpublished.add(write.event.task_id)
                elif write.plan is not None:  # its members may have ended before it was stored
                    self._on_workflow(write.user_id, write.event.task_id, 0.0)
            del writes[:BATCH_SIZE], batch.writes[:BATCH_SIZE]
        for task in batch.changed:
            if task.tracked.task_id in unpublished:
                waiting.changed.append(task)
            else:
                task.has_published = True
        batch.changed.clear()

    def _publish_workflows(self, workflows: list[tuple[str, str]], *, is_urgent: bool) -> None:
        for user_id, task_id in self.patient_store.publish_workflows(workflows, is_urgent=is_urgent):
            self._on_workflow(user_id, task_id, self._config.min_interval)
        workflows.clear()

    def _record_durations(self, durations: StageDurations, store: Store) -> None:
        store.record_durations(durations.task_name, durations.seconds)

    def _keep_end(self, task_id: str, user_id: str | None, event: TaskEvent | None = None) -> None:
        """Keep the end of a task in the user's inbox. Its user and its event are read if they are not given."""
        store = self.patient_store
        try:
            user_id = user_id or store.owner(task_id)
            event = event or store.task(task_id, user_id=user_id)
            data = {"task_id": task_id, "state": event.state.value, "error": event.error}
            if event.error_code:
                data["error_code"] = event.error_code
            url = event.data.get("url", "")
            store.keep_notification(user_id, END_EVENT, data, title=event.title, url=url if is_safe_url(url) else "")
        except (StoreError, TaskNotFound) as exc:  # the end itself is published
            logger.warning("the end of task %s is missing in the inbox of its user: %s", task_id, exc)

    def _append_log(self, task: RunningTask, store: Store) -> None:
        lines, dropped = task.log_lines.take()
        if not lines and not dropped:
            return
        user_id, task_id = task.tracked.user_id, task.tracked.task_id
        try:
            store.append_log(user_id, task_id, lines, dropped=dropped)
        except Exception as exc:
            is_to_blame = isinstance(exc, CommandRefused) or not isinstance(exc, StoreError)
            task.log_lines.put_back([] if is_to_blame else lines, dropped + len(lines) * is_to_blame)
            raise

    def resend_final_writes(self, lost_at: float, reached_at: float) -> None:
        """Send the final states again that a failover may have lost; for the times see :meth:`FinalWrites.between`."""
        finals = self.final_writes.between(lost_at, reached_at)
        writes = [final for final in finals if isinstance(final, TaskWrite)]
        for start in range(0, len(writes), BATCH_SIZE):
            self.patient_store.publish(writes[start : start + BATCH_SIZE], self.seqs)
        for final in finals:
            if isinstance(final, Ending):
                self.end(replace(final, notifies_end=False), self.patient_store)
        if finals:
            logger.info("Redis was reached again: %d final states of tasks were sent again", len(finals))

    def has_reconnected(self) -> bool:
        """Whether a connection was made since the last call; it may lead to another server."""
        before, self._connects = self._connects, self._store.client.connects + self.patient_store.client.connects
        return self._connects != before

    def is_slow(self) -> bool:
        """Whether Redis accepts writes, but takes longer than a caller waits."""
        begun = time.monotonic()
        with suppress(ShardUnavailable):  # the others answer
            self.patient_store.probe()
        return time.monotonic() - begun > self._config.publish_timeout

    def is_degraded(self) -> bool:
        """Whether a primary of a cluster is unreachable."""
        return self.patient_store.client.is_degraded

    @property
    def outage(self) -> str:
        """Which primaries of a cluster fail, and why; for logs."""
        return self.patient_store.client.outage

    def reconnect(self) -> None:
        """Replace the connections of waiting callers, which may have died."""
        self._store.client.reconnect()

    def _apply_reply(self, write: TaskWrite, result: Published) -> None:
        task_id = write.event.task_id
        with self._lock:
            self.seqs[task_id] = max(result.seq, self.seqs.get(task_id, 0))
            self.seqs.move_to_end(task_id)
            if len(self.seqs) > MAX_SEQS:
                self.seqs.popitem(last=False)
        if write.event.state.is_final:
            self.final_writes.add(write)
            if write.notifies_end and result.outcome is Outcome.STORED:
                self._keep_end(task_id, write.user_id, write.event)
        if result.has_pending_workflow and write.event.root_id is not None:
            self._on_workflow(write.user_id, write.event.root_id, self._config.min_interval)
        if result.is_cancelled:
            self._on_cancelled(task_id)


def progress_writes(tasks: Sequence[RunningTask]) -> Iterator[TaskWrite]:
    """Yield the progress of running tasks. An error in one of them affects no other."""
    for task in tasks:
        try:
            yield task.write(task.snapshot())
        except BaseException:  # an object of the application may raise anything here
            logger.exception("the progress of task %s could not be published", task.tracked.task_id)
