"""Final states that a failover may have lost: acknowledged by a primary, but not yet copied to its replica."""

from __future__ import annotations

import threading
import time
from collections import deque

from ..store import TaskWrite
from .records import Ending

#: Seconds before a lost connection within which an acknowledged write may not have reached a replica.
WINDOW = 30.0
#: Final states that are kept; beyond that the oldest is dropped.
MAX_KEPT = 2_000


class FinalWrites:
    """
    Keeps the final states of the last :data:`WINDOW` seconds, to be sent again after a reconnect.

    Redis ignores a final state that it already has, so sending one twice is harmless.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: deque[tuple[float, TaskWrite | Ending]] = deque(maxlen=MAX_KEPT)

    def add(self, final: TaskWrite | Ending) -> None:
        """Keep a final state that Redis has acknowledged, and drop those that are too old to be lost."""
        now = time.monotonic()
        with self._lock:
            self._kept.append((now, final))
            while self._kept[0][0] < now - WINDOW:
                self._kept.popleft()

    def between(self, lost_at: float, reached_at: float) -> list[TaskWrite | Ending]:
        """
        Return the states that may be missing, oldest first.

        Args:
            lost_at: When the connection was lost, in monotonic seconds.
            reached_at: When Redis was reached again: later acknowledgements are safe.
        """
        with self._lock:
            return [final for at, final in self._kept if lost_at - WINDOW <= at < reached_at]
