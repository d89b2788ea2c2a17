"""
Counters of a gateway, and their sum over the processes of one server.

The multiprocess mode of prometheus-client is switched on by an environment variable for the whole application, and
writes to its files with each event. Here each process counts in plain integers, and copies them eight times a second
into a file that its siblings can read; a scrape adds up the files. A file is locked as long as its process lives. The
counters of an ended process are kept, because a decreasing sum looks like a restart; its gauges are not.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import struct
import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from operator import add
from pathlib import Path
from typing import TypeAlias

from ..config import METRICS_FOLDER
from ..protocol import codes

logger = logging.getLogger("jobpush.gateway")

#: Current values, which end with their process, and their help texts. ``Hub.values`` returns them in this order.
GAUGES = {
    "connections": "WebSockets and event streams that are open.",
    "topics": "Topics that are subscribed in Redis.",
    "ready": "Processes that receive events from Redis and accept connections.",
    "processes": "Processes included in the sums.",
}
#: Values that only grow, and their help texts. ``Hub.values`` returns them in this order, after the gauges.
COUNTERS = {
    "connections_opened": "Connections that were taken over, refused ones included.",
    "client_messages_received": "Messages sent by clients.",
    "events_received": "Messages received from Redis: events, and commands between gateways.",
    "events_sent": "Deliveries of live events: one for each connection that is sent one, or has it in its outbox.",
    "events_conflated": "Deliveries replaced by a newer event of the same task before they were sent.",
    "events_dropped": "Messages dropped with the outbox of a slow reader.",
    "redis_reconnects": "Connections to Redis that were made again after they broke.",
    "tasks_lost": "Tasks that this gateway published as lost with their worker.",
}
#: Reasons of refusals: the class names of the protocol's errors, and refusals of the gateway itself. A label must not
#: be free text.
REFUSALS = (
    *sorted({kind.refusal for kind in vars(codes).values() if hasattr(kind, "refusal")} - {"reconnect"}),
    *("bad_request", "forbidden", "forbidden_origin", "slow_reader", "token_refused", "unauthorized_request", "other"),
)
#: Seconds from the worker to the socket: upper bounds of the histogram's buckets.
DELIVERY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
#: Seconds between two timed deliveries: twenty samples a second are as good as all, and cost nothing.
_SAMPLE_INTERVAL = 0.05

#: All values of a process: gauges, counters, refusals, deliveries of each bucket and longer ones, sum of their seconds.
Values: TypeAlias = tuple[float, ...]

_FORM = struct.Struct(f"={len(GAUGES) + len(COUNTERS) + len(REFUSALS) + len(DELIVERY_BUCKETS) + 2}d")
#: The values of a process that has counted nothing.
NO_VALUES: Values = _FORM.unpack(bytes(_FORM.size))
_ENDED = "ended"


@dataclass(slots=True)
class Traffic:
    """Counters of one process; plain integers, written by the hub's thread alone."""

    #: Connections that were taken over.
    opened: int = 0
    #: Messages of clients.
    client_messages: int = 0
    #: Deliveries: one for each listener of each event.
    deliveries: int = 0
    #: Deliveries of these that a newer event replaced.
    conflated: int = 0
    #: Messages that were dropped with an outbox.
    dropped: int = 0
    #: Bytes of histories that the sockets did not take.
    replaying: int = 0

    def replace(self, count: int) -> None:
        """Count deliveries that were replaced before any listener got them."""
        self.deliveries += count
        self.conflated += count


class Refusals:
    """Counts refusals by reason, from any thread."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(REFUSALS, 0)
        self._lock = threading.Lock()

    def count(self, reason: str) -> None:
        """Count one more."""
        with self._lock:
            self._counts[reason if reason in self._counts else "other"] += 1

    @property
    def counts(self) -> Sequence[int]:
        """Return the counts in the order of :data:`REFUSALS`."""
        return list(self._counts.values())


class DeliveryTimes:
    """Seconds from the publisher to the socket of some deliveries, counted by bucket; written by one thread."""

    def __init__(self) -> None:
        #: Counts of each of :data:`DELIVERY_BUCKETS` alone, and of longer ones.
        self.counts = [0] * (len(DELIVERY_BUCKETS) + 1)
        self.sum = 0.0
        self._next_at = 0.0

    def is_due(self, now: float) -> bool:
        """Return whether to time this wake-up's first delivery; ``now`` is monotonic."""
        if now < self._next_at:
            return False
        self._next_at = now + _SAMPLE_INTERVAL
        return True

    def observe(self, published_at: float | None) -> None:
        """Record a delivery that has just been written to its sockets. Clocks that disagree count as no delay."""
        if published_at is not None:
            seconds = max(0.0, time.time() - published_at)
            self.counts[bisect_left(DELIVERY_BUCKETS, seconds)] += 1
            self.sum += seconds


def added(values: Values, others: Values) -> Values:
    """Return the values of several processes."""
    return tuple(map(add, values, others))


class SharedMetrics:
    """
    The metric values of all processes that share a folder.

    Args:
        folder: The folder, used by one server only.

    Raises:
        OSError: If it can't be used.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with self._locked(_ENDED):  # the new file must not look abandoned
            fd, path = tempfile.mkstemp(prefix=f"{os.getpid()}-", suffix=".figures", dir=folder)
            fcntl.flock(fd, fcntl.LOCK_EX)  # held until this process ends in any way
        self._path = Path(path)
        os.ftruncate(fd, _FORM.size)
        self._memory = mmap.mmap(fd, _FORM.size)

    def write(self, values: Values) -> None:
        """Share the values of this process."""
        _FORM.pack_into(self._memory, 0, *values)

    def others(self) -> Values:
        """Return the values of all other processes, ended ones included."""
        with self._locked(_ENDED) as ended:
            total = _read(ended)
            for path in self._folder.glob("*.figures"):
                if path == self._path:
                    continue
                with suppress(FileNotFoundError), path.open("rb") as file:
                    values = _read(file.fileno())
                    if _is_left_alone(file.fileno()):
                        values = (0.0,) * len(GAUGES) + values[len(GAUGES) :]
                        os.pwrite(ended, _FORM.pack(*added(_read(ended), values)), 0)
                        path.unlink()
                    total = added(total, values)
            return total

    @contextmanager
    def _locked(self, name: str) -> Iterator[int]:
        """Open a file that one process at a time can hold."""
        fd = os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield fd
        finally:
            os.close(fd)


def open_siblings(application: str) -> SharedMetrics | None:
    """
    Return the siblings of this process; ``None`` if it has none, or if the folder can't be used.

    Args:
        application: Distinguishes the gateways of one server.
    """
    folder = os.environ.get(METRICS_FOLDER)
    if not folder:
        return None
    try:
        own = Path(folder, sha256(application.encode()).hexdigest()[:16])
        own.mkdir(0o700, exist_ok=True)
        return SharedMetrics(own)
    except OSError as exc:
        logger.warning("Metrics cover one process each, because their shared folder %s can't be used: %s", folder, exc)
        return None


def _read(fd: int) -> Values:
    data = os.pread(fd, _FORM.size, 0)
    return _FORM.unpack(data) if len(data) == _FORM.size else NO_VALUES


def _is_left_alone(fd: int) -> bool:
    """Return whether the process of a file has ended."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
