"""Cancelling in a worker's parent: cancelled tasks do not start, and those that keep running are terminated."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from ...reporting.services import Services
from ...store import CancelFeed
from .compat import active_requests, can_terminate, revoke
from .headers import ROOT_HEADER

logger = logging.getLogger(__name__)

#: Seconds between two checks of the thread whether to stop.
_MAX_PAUSE = 2.0
#: Shortest time in seconds between two terminations of one task.
_LEAST_GRACE = 2.0


class Revoker:
    """
    The thread of a worker's parent that revokes cancelled tasks in this worker, so that they do not start.

    It terminates those that still run after ``cancel_grace``. If the pool cannot do that, the bar shows that the task
    cannot be stopped and ends by itself.
    """

    def __init__(self, consumer: Any, runtime: Services) -> None:
        """
        Args:
            consumer: Celery's, as ``worker_ready`` passes it.
            runtime: Of the same app.
        """
        self._consumer = consumer
        self._can_terminate = can_terminate(consumer.pool)
        self._config = runtime.config
        self._running = runtime.running
        self._is_stopped = threading.Event()
        #: Monotonic seconds after which a cancelled task is overdue, by its id.
        self._deadlines: dict[str, float] = {}
        threading.Thread(target=self._run, name="jobpush-cancels-parent", daemon=True).start()

    def stop(self) -> None:
        """End the thread soon."""
        self._is_stopped.set()

    def _run(self) -> None:
        feed = CancelFeed(self._config)
        place = None
        has_failed = False
        while not self._is_stopped.is_set():
            try:
                place = place or feed.newest()
                place, task_ids = feed.read(place, timeout=self._pause())
                if has_failed:
                    has_failed = False
                    logger.warning("cancelled tasks can be revoked again")
                if task_ids:
                    self._deadlines.update(dict.fromkeys(task_ids, time.monotonic() + self._config.cancel_grace))
                    revoke(self._consumer, task_ids)
                self._end_overdue()
            except Exception as exc:  # a cancelled task still does not start: its wrapper asks Redis
                if not has_failed:  # log one line per change
                    logger.warning("cancelled tasks can't be revoked at the moment: %s", exc)
                has_failed = True
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
        running: set[str] = set()
        for request in active_requests() if overdue else ():
            for task_id in overdue.intersection((str(request.id), request.request_dict.get(ROOT_HEADER))):
                running.add(request.id)
                if self._can_terminate:  # repeated, because the consumer drops its calls when it loses the broker
                    self._deadlines[task_id] = now + max(self._config.cancel_grace, _LEAST_GRACE)
        if running and self._can_terminate:
            revoke(self._consumer, running, terminate=True)
        for running_id in () if self._can_terminate else running:
            self._running.show_unstoppable(running_id)
