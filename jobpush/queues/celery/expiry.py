"""Tasks that expire before a worker takes them: the process that published them ends their bars."""

from __future__ import annotations

import heapq
import logging
import threading
import time
import weakref

from ...events import CodedText
from ...lifecycle import TaskState
from ...reporting.records import Ending
from ...reporting.services import Services
from ...reporting.threads import kept_alive
from ...store.forks import register_after_fork

logger = logging.getLogger(__name__)

#: Text for a task that was not started before it expired.
EXPIRED = CodedText("The task was not started in time", "expired")
#: Seconds after the expiry, so that a worker that refuses the task publishes first.
_MARGIN = 0.5
#: Expiring tasks that are remembered; beyond, only a worker publishes their expiry.
MAX_EXPIRING = 10_000


class ExpiryTimer:
    """
    The thread of a publishing process that ends tasks at their expiry.

    Celery checks the expiry when a worker takes the message, which may be much later or never. The store refuses
    the end of a task that has begun or ended, so nothing needs to be withdrawn here.
    """

    def __init__(self, services: Services) -> None:
        self._services = weakref.ref(services)
        self.reset_after_fork()
        register_after_fork(self)

    def reset_after_fork(self) -> None:
        """Forget the parent's tasks and thread."""
        self._changed = threading.Condition(threading.Lock())
        #: Unix seconds, task id and user id, the next one first.
        self._expiring: list[tuple[float, str, str]] = []
        self._thread: threading.Thread | None = None

    def add(self, task_id: str, user_id: str, expires_at: float) -> None:
        """End a task at its expiry if it still waits then."""
        with self._changed:
            if len(self._expiring) < MAX_EXPIRING:
                heapq.heappush(self._expiring, (expires_at + _MARGIN, task_id, user_id))
                self._thread = kept_alive(self._thread, self._run, "jobpush-expiry")
                self._changed.notify()

    def _run(self) -> None:
        while (services := self._services()) is not None:
            for task_id, user_id in self._expired():
                services.publisher.submit_ending(Ending(task_id, TaskState.REVOKED, EXPIRED, user_id=user_id))
            del services
            with self._changed:
                next_at = self._expiring[0][0] if self._expiring else float("inf")
                self._changed.wait(min(max(0.0, next_at - time.time()), 60.0))

    def _expired(self) -> list[tuple[str, str]]:
        with self._changed:
            expired = []
            while self._expiring and self._expiring[0][0] <= time.time():
                expired.append(heapq.heappop(self._expiring)[1:])
            return expired


_timers: weakref.WeakKeyDictionary[Services, ExpiryTimer] = weakref.WeakKeyDictionary()


def expiry_timer_of(services: Services) -> ExpiryTimer:
    """Return the timer of this process, made on first use."""
    timer = _timers.get(services)
    return _timers.setdefault(services, ExpiryTimer(services)) if timer is None else timer
