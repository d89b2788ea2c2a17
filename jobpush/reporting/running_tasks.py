"""The running tracked tasks of this process, and the thread that cancels them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from ..config import Config
from ..errors import StoreError
from ..events import CodedText
from ..store import CancelFeed, Store
from ..store.forks import register_after_fork
from .running_task import RunningTask
from .threads import kept_alive

logger = logging.getLogger(__name__)

#: Shown for a cancelled task that cannot be stopped.
UNSTOPPABLE = CodedText("This worker can't stop a running task: it runs until it checks for a cancel", "unstoppable")


class RunningTasks:
    """
    A thread receives cancel requests, from the first task on.

    Attributes:
        on_reconnect: Called when Redis is reached again, with the monotonic seconds at which it was lost.
    """

    on_reconnect: Callable[[float], None] | None = None

    def __init__(self, store: Store, config: Config) -> None:
        self._store = store
        self._config = config
        self.reset_after_fork()
        register_after_fork(self)

    def reset_after_fork(self) -> None:
        """Start from nothing in the child of a fork: the tasks and the thread are the parent's."""
        self._lock = threading.Lock()
        #: Two may have the same id, when the broker redelivers a task that already runs here.
        self._tasks: set[RunningTask] = set()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def close(self) -> None:
        """End the thread, the next time that it connects to Redis."""
        self._is_closed = True

    def add(self, task: RunningTask) -> None:
        """Add a task that starts."""
        with self._lock:
            self._tasks.add(task)
            self._thread = kept_alive(self._thread, self._listen, "jobpush-cancels")

    def remove(self, task: RunningTask) -> None:
        """Remove a task that has ended."""
        with self._lock:
            self._tasks.discard(task)

    def find(self, task_id: str) -> RunningTask | None:
        """Return the task of that id; ``None`` if it does not run in this process."""
        return next((task for task in list(self._tasks) if task.tracked.task_id == task_id), None)

    def cancel(self, task_id: str) -> None:
        """Cancel a task, or all tasks of a workflow, that run in this process."""
        for task in list(self._tasks):
            if task_id in (task.tracked.task_id, task.tracked.root_id):
                task.is_cancelled = True

    def show_unstoppable(self, task_id: str) -> None:
        """Show that a cancelled task keeps running, since only the task itself can end it here."""
        for task in list(self._tasks):
            if task.tracked.task_id == task_id and not task.has_ended:
                task.notice = UNSTOPPABLE
                task.mark_changed()

    def _listen(self) -> None:
        lost_at: float | None = None
        while not self._is_closed:
            feed = CancelFeed(self._config)
            try:
                for task_id in feed.listen():
                    if task_id is not None:
                        self.cancel(task_id)
                        continue
                    self._catch_up()
                    if lost_at is not None and self.on_reconnect is not None:
                        self.on_reconnect(lost_at)
                    lost_at = None
            except StoreError:
                pass  # the publisher logs it
            except Exception:  # a bug in jobpush; the replies to published events report cancels too
                logger.exception("cancel requests can't be received")
            if lost_at is None:
                lost_at = time.monotonic()
            feed.close()
            time.sleep(self._config.retry_interval)

    def _catch_up(self) -> None:
        with self._lock:
            tracked = [task.tracked for task in self._tasks]
        tasks = {(task.user_id, task_id) for task in tracked for task_id in (task.task_id, task.root_id) if task_id}
        for task_id in self._store.cancelled(tasks):
            self.cancel(task_id)
