"""Circuit breaker for Redis calls: after the first timeout, callers fail fast until Redis recovers."""

from __future__ import annotations

import logging
import time

logger = logging.getLogger(__name__)


class CircuitBreaker:
    """
    Remembers whether Redis answers, and logs one line per change.

    While it is open, only the publisher's thread retries. It keeps publishing occasionally through a Redis that is too
    slow for waiting callers.
    """

    def __init__(self, retry_interval: float) -> None:
        self.is_open = False
        self._retry_interval = retry_interval
        self._retry_at = 0.0

    def failed(self, reason: object) -> None:
        """Open: Redis did not answer, or refused."""
        self._retry_at = time.monotonic() + self._retry_interval
        if not self.is_open:
            self.is_open = True
            logger.warning("progress can't be published, tasks continue without it: %s", reason)

    def still_slow(self) -> None:
        """Stay open: Redis answered, but too late for a waiting caller."""
        self._retry_at = time.monotonic() + self._retry_interval

    def succeeded(self) -> None:
        """Close: Redis answered."""
        if self.is_open:
            self.is_open = False
            logger.warning("progress can be published again")

    def seconds_to_wait(self) -> float:
        """Return the seconds until the next try; 0 if it may be made now."""
        return max(0.0, self._retry_at - time.monotonic()) if self.is_open else 0.0
