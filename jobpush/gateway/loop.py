"""The one thread in which a gateway's sockets live: epoll, a few timers, and calls from other threads."""

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

#: Seconds that the loop sleeps at most; only a guard, everything that matters wakes it.
_LONGEST_SLEEP = 60.0


class Pollable(Protocol):
    """Who waits for a file descriptor."""

    def on_ready(self, events: int) -> None:
        """Do what the ``events`` (``select.EPOLL…``) allow, without blocking."""

    def on_failure(self, exc: Exception) -> None:
        """Give up this one: :meth:`on_ready` has raised."""


class Timer:
    """A call that is due at some time."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Don't call. Twice, or too late, does no harm."""
        self.call = None


class _Alarm:
    """Wakes the loop from another thread; nobody, once the loop has ended."""

    __slots__ = ("_is_closed", "_lock", "fd")

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._is_closed = False
        self._lock = threading.Lock()  # the number of a closed descriptor may be somebody else's

    def ring(self) -> bool:
        with self._lock:
            if not self._is_closed:
                os.eventfd_write(self.fd, 1)
            return not self._is_closed

    def on_ready(self, events: int) -> None:
        os.eventfd_read(self.fd)

    def on_failure(self, exc: Exception) -> None:
        raise exc

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            os.close(self.fd)


class Loop:
    """
    An epoll loop. All but :meth:`call_soon` is for the loop's own thread.

    Args:
        after_each: Called after the events of one wake-up, before the next sleep: what they gave rise to is
            sent there, all together.
        clock: Seconds that never go back.
    """

    def __init__(self, after_each: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._after_each = after_each
        self._clock = clock
        self._epoll = select.epoll()
        self._pollables: dict[int, Pollable] = {}
        self._calls: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._timer_ids = itertools.count()
        self._alarm = _Alarm()
        self.register(self._alarm.fd, self._alarm, select.EPOLLIN)
        self._is_stopped = False
        #: Monotonic time of the present wake-up: one look at the clock serves all that it brings.
        self.now = clock()

    def call_soon(self, call: Callable[[], None]) -> bool:
        """Call something in the loop's thread, from any thread; ``False`` if the loop has ended."""
        self._calls.append(call)
        return self._alarm.ring()

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call something once, ``seconds`` from now."""
        timer = Timer(call)
        heapq.heappush(self._timers, (self.now + seconds, next(self._timer_ids), timer))
        return timer

    def register(self, fd: int, pollable: Pollable, events: int) -> None:
        """Begin to watch a descriptor."""
        self._epoll.register(fd, events)
        self._pollables[fd] = pollable

    def modify(self, fd: int, events: int) -> None:
        """Watch a descriptor for other events."""
        self._epoll.modify(fd, events)

    def unregister(self, fd: int) -> None:
        """No longer watch a descriptor; before it is closed, for its number may come back at once."""
        del self._pollables[fd]
        self._epoll.unregister(fd)

    def stop(self) -> None:
        """Let :meth:`run` return after the present wake-up."""
        self._is_stopped = True

    def run(self) -> None:
        """Serve until :meth:`stop`. What one call or descriptor raises is logged, and the others go on."""
        while not self._is_stopped:
            self.run_once(self._sleep())

    def run_once(self, timeout: float) -> None:
        """Sleep, for so many seconds at most, and do what one wake-up brings."""
        events = self._epoll.poll(timeout)
        self.now = self._clock()
        for fd, mask in events:
            pollable = self._pollables.get(fd)
            if pollable is None:
                continue  # closed by an event before it
            try:
                pollable.on_ready(mask)
            except Exception as exc:
                self._guard(lambda pollable=pollable, exc=exc: pollable.on_failure(exc))  # type: ignore[misc]
        self._run_calls()
        self._run_timers()
        self._guard(self._after_each)

    def close(self) -> None:
        """Give the descriptors back, and do the last calls; after :meth:`run` has returned."""
        self._alarm.close()
        self._run_calls()
        self._epoll.close()

    def _sleep(self) -> float:
        if self._calls:
            return 0.0
        if not self._timers:
            return _LONGEST_SLEEP
        return min(max(self._timers[0][0] - self._clock(), 0.0), _LONGEST_SLEEP)

    def _run_calls(self) -> None:
        for _ in range(len(self._calls)):  # what they add waits for the next wake-up
            self._guard(self._calls.popleft())

    def _run_timers(self) -> None:
        while self._timers and self._timers[0][0] <= self.now:
            timer = heapq.heappop(self._timers)[2]
            if timer.call is not None:
                self._guard(timer.call)

    def _guard(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception:
            logger.exception("the gateway's hub goes on after an error")
