"""Waiting for something that no event announces."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import redis

#: Seconds after which a test gives up.
PATIENCE = 60.0


def wait_until(is_reached: Callable[[], object], what: str = "it", patience: float = PATIENCE) -> None:
    """Ask every few milliseconds whether something has happened; Redis may be away meanwhile."""
    deadline = time.monotonic() + patience
    while True:
        with suppress(redis.RedisError):
            if is_reached():
                return
        assert time.monotonic() < deadline, f"{what} never came"
        time.sleep(0.02)
