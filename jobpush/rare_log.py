"""Log lines about what may happen many times a second: at most one a minute for each reason."""

from __future__ import annotations

import time
from collections.abc import Callable
from logging import Logger

#: Seconds between two lines about one reason.
_INTERVAL = 60.0
#: Reasons that are remembered.
_MAX_REASONS = 100


class RareLog:
    """
    Warns about a reason at most once a minute; from any thread.

    Args:
        logger: Where to log.
        clock: Monotonic seconds.
    """

    def __init__(self, logger: Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._logged_at: dict[str, float] = {}

    def warn(self, reason: str, message: str) -> None:
        """Log a message, unless one about this reason was logged within the last minute."""
        now = self._clock()
        if now - self._logged_at.get(reason, -_INTERVAL) >= _INTERVAL:
            if len(self._logged_at) >= _MAX_REASONS:
                self._logged_at.clear()
            self._logged_at[reason] = now
            self._logger.warning("%s (logged once a minute)", message)
