"""How a worker's parent keeps cancelled tasks from starting, and ends those that don't heed."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from celery.concurrency.base import BasePool
from celery.worker import state as worker_state

from ...reporting.services import Services
from ...store import CancelFeed
from .headers import ROOT_HEADER

logger = logging.getLogger(__name__)

#: Seconds after which the thread looks whether it is to stop.
_MAX_PAUSE = 2.0
#: Seconds between two terminations of one task, at least.
_LEAST_GRACE = 2.0


class Revoker:
    """
    The thread of a worker's parent that keeps cancelled tasks from running on.

    It has Celery revoke a task in this worker, so that it does not start; and terminate it after ``cancel_grace``
    if it runs on. Where the pool can't do that, and runs its tasks in this process, the user is told so: the task then
    ends as it ends. Celery's own command is used, addressed to this worker alone, since every worker hears of every
    cancel.
    """

    def __init__(self, consumer: Any, runtime: Services) -> None:
        """
        Args:
            consumer: Celery's, as ``worker_ready`` gives it.
            runtime: Of the same app.
        """
        self._app = consumer.app
        self._hostname = consumer.hostname
        # Threads, solo, and gevent of Celery 5.4 have the base's, which only raises; prefork's stands on the instance.
        terminate_job = getattr(consumer.pool.terminate_job, "__func__", None)
        has_remote_control = self._app.conf.worker_enable_remote_control
        self._can_terminate = terminate_job is not BasePool.terminate_job
        if self._can_terminate and not has_remote_control:
            self._can_terminate = False
            logger.warning("worker_enable_remote_control is off: cancelled tasks that run on can't be terminated")
        self._config = runtime.config
        self._running = runtime.running
        self._is_stopped = threading.Event()
        #: Monotonic seconds at which a task is overdue that still runs, by its id.
        self._deadlines: dict[str, float] = {}
        threading.Thread(target=self._run, name="jobpush-cancels-parent", daemon=True).start()

    def stop(self) -> None:
        """End the thread, soon."""
        self._is_stopped.set()

    def _run(self) -> None:
        feed = CancelFeed(self._config)
        place = None
        is_deaf = False
        while not self._is_stopped.is_set():
            try:
                place = place or feed.newest()
                place, task_ids = feed.read(place, timeout=self._pause())
                if is_deaf:
                    is_deaf = False
                    logger.warning("cancelled tasks can be revoked again")
                deadline = time.monotonic() + self._config.cancel_grace
                self._deadlines.update(dict.fromkeys(task_ids, deadline))  # first, for the broker may be away
                for task_id in task_ids:
                    self._app.control.revoke(task_id, destination=[self._hostname])
                self._end_overdue()
            except Exception as exc:  # of Redis or of the broker; the guard at a task's start is still there
                if not is_deaf:  # one line for each change
                    logger.warning("cancelled tasks can't be revoked at the moment: %s", exc)
                is_deaf = True
                self._is_stopped.wait(self._config.retry_interval)
        feed.close()

    def _pause(self) -> float:
        next_deadline = min(self._deadlines.values(), default=time.monotonic() + _MAX_PAUSE)
        return max(0.0, min(_MAX_PAUSE, next_deadline - time.monotonic()))

    def _end_overdue(self) -> None:
        now = time.monotonic()
        overdue = {task_id for task_id, deadline in self._deadlines.items() if deadline <= now}
        for task_id in overdue:
            del self._deadlines[task_id]
        running: dict[str, None] = {}
        for request in list(worker_state.active_requests) if overdue else ():
            for task_id in overdue.intersection((request.id, request.request_dict.get(ROOT_HEADER))):
                running[request.id] = None
                if self._can_terminate:  # again and again: a worker that has just found its broker may not hear of it
                    self._deadlines[task_id] = now + max(self._config.cancel_grace, _LEAST_GRACE)
        for running_id in running:
            if self._can_terminate:
                self._app.control.revoke(running_id, terminate=True, destination=[self._hostname])
            else:
                self._running.say_unstoppable(running_id)
