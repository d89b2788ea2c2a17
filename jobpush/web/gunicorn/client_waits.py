"""Threads that wait for a client to send or to read, bounded per process and per address."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

#: Threads of one process that may wait for clients at once, and for the clients of one address.
MAX_WAITING = 64
MAX_WAITING_PER_ADDRESS = 16


@dataclass(slots=True)
class _Wait:
    taken: socket.socket
    address: str | None
    until: float


class ClientWaits:
    """
    The clients that threads wait for. Thread-safe.

    Beyond a bound the client that has waited longest is disconnected, of the address with the most of them, so that a
    thread is free for every other request.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._waits: dict[object, _Wait] = {}

    def enter(self, owner: object, taken: socket.socket, address: str | None, seconds: float) -> None:
        """
        Begin to wait for a client; :meth:`leave` ends it.

        Args:
            owner: Identifies the wait.
            taken: The client's socket.
            address: The client's address; ``None`` if it is unknown, and then not bounded on its own.
            seconds: Time after which the client is disconnected.
        """
        with self._lock:
            self._waits[owner] = _Wait(taken, address, self._clock() + seconds)
            if len(self._waits) > (MAX_WAITING if address is None else MAX_WAITING_PER_ADDRESS):
                self._evict(address)

    def leave(self, owner: object) -> None:
        """The client has sent or read everything."""
        self._waits.pop(owner, None)

    def expire(self) -> None:
        """Disconnect the clients with an expired deadline, which wakes their threads."""
        now = self._clock()
        with self._lock:
            for owner, wait in list(self._waits.items()):
                if wait.until < now:
                    self._disconnect(owner)

    def _evict(self, address: str | None) -> None:
        """Disconnect one client if this address or the process has too many."""
        waits = list(self._waits.items())
        counts = Counter(wait.address for _, wait in waits)
        if address is None or counts[address] <= MAX_WAITING_PER_ADDRESS:
            if len(waits) <= MAX_WAITING:
                return
            address = counts.most_common(1)[0][0]
        self._disconnect(next(owner for owner, wait in waits if wait.address == address))

    def _disconnect(self, owner: object) -> None:
        if wait := self._waits.pop(owner, None):
            try:
                wait.taken.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the client has closed it
