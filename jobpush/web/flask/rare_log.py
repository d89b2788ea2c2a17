"""Log lines about refusals, at most one a minute for each reason."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from flask import request

logger = logging.getLogger("jobpush.gateway")

#: Seconds between two lines about one reason.
_INTERVAL = 60.0


class RareLog:
    """
    Warns about a reason at most once a minute; from any thread.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged_at: dict[str, float] = {}

    def warn(self, reason: str, message: str) -> None:
        """Log a message, unless one about this reason was logged within the last minute."""
        now = self._clock()
        if now - self._logged_at.get(reason, -_INTERVAL) >= _INTERVAL:
            self._logged_at[reason] = now
            logger.warning("%s (logged once a minute)", message)

    def warn_of_request(self, reason: str, message: str, remedy: str) -> None:
        """Log why the current request was refused, with its origin and host."""
        origin, path = request.headers.get("Origin", "none"), request.path
        text = f"{message}; path {path[:100]!r}, origin {origin[:100]!r}, host {request.host[:100]!r}. {remedy}"
        self.warn(reason, text)
