"""The circuit breaker in front of Redis: who finds it away waits once, nobody after that."""

from __future__ import annotations

import logging
import time

logger = logging.getLogger(__name__)


class CircuitBreaker:
    """
    Remembers whether Redis answers, and says so in one log line per change.

    Open means: don't ask. Only the publisher's thread, which nobody waits for, tries again; and goes on publishing,
    now and then, through a Redis that is too slow for anybody who waits.
    """

    def __init__(self, retry_interval: float) -> None:
        self.is_open = False
        self._retry_interval = retry_interval
        self._retry_at = 0.0

    def failed(self, reason: object) -> None:
        """Redis did not do what was asked."""
        self._retry_at = time.monotonic() + self._retry_interval
        if not self.is_open:
            self.is_open = True
            logger.warning("progress can't be published, tasks run on without: %s", reason)

    def still_slow(self) -> None:
        """Redis did what was asked, but nobody could have waited for it."""
        self._retry_at = time.monotonic() + self._retry_interval

    def succeeded(self) -> None:
        """Redis did what was asked."""
        if self.is_open:
            self.is_open = False
            logger.warning("progress can be published again")

    def seconds_to_wait(self) -> float:
        """Seconds until the next try; 0 if one may be made now."""
        return max(0.0, self._retry_at - time.monotonic()) if self.is_open else 0.0
