"""Polling for a state that no event announces."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress

import redis

from jobpush.errors import StoreError

#: Seconds after which a test gives up.
PATIENCE = 60.0


def wait_until(
    is_reached: Callable[[], object], what: str | Callable[[], object] = "it", patience: float = PATIENCE
) -> None:
    """
    Poll until a state is reached; Redis may be unreachable meanwhile.

    Args:
        is_reached: Return whether the state is reached.
        what: The awaited state, or a function that describes the present one, for the error message.
        patience: Seconds until the test fails.
    """
    deadline = time.monotonic() + patience
    while True:
        with suppress(redis.RedisError, StoreError):
            if is_reached():
                return
        assert time.monotonic() < deadline, f"timed out waiting for: {what() if callable(what) else what}"
        time.sleep(0.02)


def is_listening(port: int) -> bool:
    """Return whether a port of the loopback interface accepts connections."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
