"""How a task learns at once that its user has cancelled it."""

from __future__ import annotations

import logging
import threading
import time

from ..config import Config
from ..errors import StoreError
from ..store import CancelFeed, Store
from ..store.forks import register_after_fork
from .running_task import RunningTask
from .threads import kept_alive

logger = logging.getLogger(__name__)

#: What the user reads of a cancelled task that runs on.
UNSTOPPABLE = "This worker can't stop a running task: it runs on until it looks"


class RunningTasks:
    """The tracked tasks that run in this process. A thread hears of cancels, from the first task on."""

    def __init__(self, store: Store, config: Config) -> None:
        self._store = store
        self._config = config
        self.begin()
        register_after_fork(self)

    def begin(self) -> None:
        """Start from nothing: the tasks and the thread are the parent's."""
        self._lock = threading.Lock()
        #: Two of them may have one id, where the broker delivers again what runs here already.
        self._tasks: set[RunningTask] = set()
        self._thread: threading.Thread | None = None

    def add(self, task: RunningTask) -> None:
        """A task begins."""
        with self._lock:
            self._tasks.add(task)
            self._thread = kept_alive(self._thread, self._listen, "jobpush-cancels")

    def remove(self, task: RunningTask) -> None:
        """A task has ended."""
        with self._lock:
            self._tasks.discard(task)

    def cancel(self, task_id: str) -> None:
        """Somebody asked for the end of a task, or of the workflow it is in; whether it runs here or elsewhere."""
        for task in list(self._tasks):
            if task_id in (task.tracked.task_id, task.tracked.root_id):
                task.is_cancelled = True

    def say_unstoppable(self, task_id: str) -> None:
        """A cancelled task runs on, here, where only the task itself can end it: its user is to know."""
        for task in list(self._tasks):
            if task.tracked.task_id == task_id:
                task.notice = UNSTOPPABLE
                task.mark_changed()

    def _listen(self) -> None:
        while True:
            feed = CancelFeed(self._config)
            try:
                for task_id in feed.listen():
                    if task_id is None:
                        self._catch_up()
                    else:
                        self.cancel(task_id)
            except StoreError:
                pass  # the publisher says so in the log
            except Exception:  # a bug of ours; the replies to what is published tell of cancels too
                logger.exception("cancels can't be heard")
            feed.close()
            time.sleep(self._config.retry_interval)

    def _catch_up(self) -> None:
        with self._lock:
            tracked = [task.tracked for task in self._tasks]
        tasks = {(task.user_id, task_id) for task in tracked for task_id in (task.task_id, task.root_id) if task_id}
        for task_id in self._store.cancelled(tasks):
            self.cancel(task_id)
