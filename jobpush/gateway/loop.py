"""
The event loop of a gateway's sockets, in one thread: polling, a few timers, and calls from other threads.

Events are those of ``select.poll`` (``POLLIN``, ``POLLOUT``, …). On Linux the loop uses epoll, with the same event
values; elsewhere ``poll``.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

logger = logging.getLogger("jobpush.gateway")

#: Longest sleep of the loop in seconds. A safeguard only: every event wakes the loop.
_LONGEST_SLEEP = 60.0


class Pollable(Protocol):
    """The owner of a file descriptor."""

    def on_ready(self, events: int) -> None:
        """Do what the ``events`` (``select.POLL…``) allow, without blocking."""

    def on_failure(self, exc: Exception) -> None:
        """Handle an exception of :meth:`on_ready`."""


class _Poll:
    """``select.poll`` with the interface of ``select.epoll``, for systems without it."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self.register, self.modify, self.unregister = self._poll.register, self._poll.modify, self._poll.unregister

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        return self._poll.poll(timeout * 1_000)

    def close(self) -> None:
        pass  # it has no descriptor


class _Alarm:
    """Wakes the loop from another thread; without effect once the loop has ended."""

    def __init__(self) -> None:
        self._is_closed = False
        self._lock = threading.Lock()  # the number of a closed descriptor may be in use again
        self.fd, self._write = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write, False)

    def ring(self) -> bool:
        with self._lock:
            if not self._is_closed:
                try:
                    os.write(self._write, b"\0")
                except BlockingIOError:
                    pass  # the loop has not read the last wake-up yet
            return not self._is_closed

    def on_ready(self, events: int) -> None:
        os.read(self.fd, 4_096)

    def on_failure(self, exc: Exception) -> None:
        raise exc

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            os.close(self.fd)
            os.close(self._write)


class Loop:
    """
    An event loop. All methods but :meth:`call_soon` are for the loop's own thread.

    Args:
        after_each: Called after the events of one wake-up, before the next sleep, to send all that they caused.
        clock: Seconds that never go back.
    """

    def __init__(self, after_each: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._after_each = after_each
        self._clock = clock
        self._poller: select.epoll | _Poll = select.epoll() if hasattr(select, "epoll") else _Poll()
        self._pollables: dict[int, Pollable] = {}
        self._calls: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_ids = itertools.count()
        self._alarm = _Alarm()
        self.register(self._alarm.fd, self._alarm, select.POLLIN)
        self._is_stopped = False
        #: Monotonic time of the present wake-up; the clock is read once for all of its events.
        self.now = clock()

    def call_soon(self, call: Callable[[], None]) -> bool:
        """Call a function in the loop's thread, from any thread. Return ``False`` if the loop has ended."""
        self._calls.append(call)
        return self._alarm.ring()

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call a function once, ``seconds`` from now."""
        heapq.heappush(self._timers, (self.now + seconds, next(self._timer_ids), call))

    def register(self, fd: int, pollable: Pollable, events: int) -> None:
        """Watch a descriptor."""
        self._poller.register(fd, events)
        self._pollables[fd] = pollable

    def modify(self, fd: int, events: int) -> None:
        """Watch a descriptor for other events."""
        self._poller.modify(fd, events)

    def unregister(self, fd: int) -> None:
        """Stop watching a descriptor; before it is closed, since its number may be used again at once."""
        del self._pollables[fd]
        self._poller.unregister(fd)

    def stop(self) -> None:
        """Have :meth:`run` return after the present wake-up."""
        self._is_stopped = True

    def run(self) -> None:
        """Serve until :meth:`stop`. An exception of one call or descriptor is logged, and does not stop the others."""
        while not self._is_stopped:
            self.run_once(self._sleep())

    def run_once(self, timeout: float) -> None:
        """Sleep at most this many seconds, and process one wake-up."""
        events = self._poller.poll(timeout)
        self.now = self._clock()
        for fd, mask in events:
            pollable = self._pollables.get(fd)
            if pollable is None:
                continue  # an earlier event closed it
            try:
                pollable.on_ready(mask)
            except Exception as exc:
                self._guard(lambda pollable=pollable, exc=exc: pollable.on_failure(exc))  # type: ignore[misc]
        self._run_calls()
        self._run_timers()
        self._guard(self._after_each)

    def close(self) -> None:
        """Close the descriptors and do the last calls, after :meth:`run` has returned."""
        self._alarm.close()
        self._run_calls()
        self._poller.close()

    def _sleep(self) -> float:
        if self._calls:
            return 0.0
        if not self._timers:
            return _LONGEST_SLEEP
        return min(max(self._timers[0][0] - self._clock(), 0.0), _LONGEST_SLEEP)

    def _run_calls(self) -> None:
        for _ in range(len(self._calls)):  # calls added meanwhile wait for the next wake-up
            self._guard(self._calls.popleft())

    def _run_timers(self) -> None:
        while self._timers and self._timers[0][0] <= self.now:
            self._guard(heapq.heappop(self._timers)[2])

    def _guard(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception:
            logger.exception("The hub continues after an internal error")
