"""The connections of one process: takeover, regular tick, and end."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from ..protocol.actions import Action
from ..protocol.codes import Reconnect
from .connection import READING, Connection
from .loop import Loop

logger = logging.getLogger("jobpush.gateway")

#: Slices of a second: each ticks its share of the connections, so that no wake-up pays for all of them.
SLICES = 8
#: Seconds after which a closing connection ends, if its client neither reads nor answers the close.
_END_TIMEOUT = 2.0
#: Seconds that a closing connection may take in all, while its client reads.
LONGEST_END = 5.0
#: Closes per second when the gateway stops: fewer connections need less than ``Config.drain_timeout``.
_CLOSES_PER_SECOND = 200.0


#: Returns the first actions of a connection, at the time that it is given.
Opening: TypeAlias = Callable[[float], Iterable[Action]]


class Connections:
    """
    All connections of a process.

    Args:
        loop: The loop that watches their sockets.
        on_closed: Called after a connection's socket was closed.
    """

    def __init__(self, loop: Loop, on_closed: Callable[[Connection], None]) -> None:
        self._loop = loop
        self._on_closed = on_closed
        #: By descriptor, in slices for the tick.
        self._slices: list[dict[int, Connection]] = [{} for _ in range(SLICES)]
        self._slice = 0
        self._unflushed: list[Connection] = []
        self._lost: list[Connection] = []
        self._given_up: list[tuple[Connection, int, str]] = []
        #: Closing connections: when each ends without a further sign of its client, and when it ends in any case.
        self._ending: dict[Connection, tuple[float, float]] = {}
        #: When the last connection is to be closed, once :meth:`drain` was called.
        self._drain_until: float | None = None
        #: Called once after that.
        self._on_drained: Callable[[], None] | None = None

    def __len__(self) -> int:
        return sum(map(len, self._slices))

    def __iter__(self) -> Iterator[Connection]:
        return iter([connection for connections in self._slices for connection in connections.values()])

    @property
    def is_draining(self) -> bool:
        """Whether :meth:`drain` was called."""
        return self._drain_until is not None

    def take_over(self, connection: Connection, head: bytes, opening: Opening, requests: Sequence[str]) -> None:
        """Begin to serve a connection."""
        connection.host.traffic.opened += 1
        self._loop.register(connection.fd, connection, READING)
        self._slice_of(connection)[connection.fd] = connection
        try:
            connection.begin(head, opening(self._loop.now), requests)
        except Exception as exc:
            connection.on_failure(exc)
        if self.is_draining and self._on_drained is None:  # all others are closed already
            self._close(connection)

    def flush_later(self, connection: Connection) -> None:
        """Flush a connection at the end of the wake-up, with everything that the wake-up queues."""
        self._unflushed.append(connection)

    def lose(self, connection: Connection) -> None:
        """Close the socket of a connection at the end of the wake-up. Twice does no harm."""
        self._lost.append(connection)

    def close_later(self, connection: Connection, code: int, reason: str) -> None:
        """Close a connection at the end of the wake-up, since others may be in the middle of an iteration."""
        self._given_up.append((connection, code, reason))

    def expect_end(self, connection: Connection) -> None:
        """Close the socket of a closing connection soon. Call it again whenever the client has read something."""
        now = self._loop.now
        _, latest = self._ending.get(connection, (now, now + LONGEST_END))
        self._ending[connection] = (min(now + _END_TIMEOUT, latest), latest)

    def finish(self) -> None:
        """Flush and close at the end of the wake-up: one system call for each socket."""
        while self._unflushed or self._lost or self._given_up:
            given_up, self._given_up = self._given_up, []
            for connection, code, reason in given_up:
                connection.give_up(code, reason)
            unflushed, self._unflushed = self._unflushed, []
            for connection in unflushed:
                try:
                    connection.flush()
                except Exception:
                    logger.exception("connection %s is lost after an internal error", connection.socket_id)
                    self.lose(connection)
            lost, self._lost = self._lost, []
            for connection in lost:
                self._close(connection)

    def tick(self) -> bool:
        """Do what is due on one slice of the connections. Return whether all slices have been processed."""
        now = self._loop.now
        self._slice = (self._slice + 1) % SLICES
        for connection in list(self._slices[self._slice].values()):
            try:
                connection.tick(now)
            except Exception as exc:
                connection.on_failure(exc)
        for connection, (until, _) in list(self._ending.items()):
            if until <= now:
                self.lose(connection)
        if self._drain_until is not None and self._on_drained is not None:
            self._drain(self._drain_until)
        return self._slice == 0

    def drain(self, timeout: float, on_drained: Callable[[], None]) -> None:
        """
        Close all connections, spread over a time of at most ``timeout`` seconds.

        pusher-js reconnects in the same instant on 4200; spreading the closes spares the other gateways a stampede.
        """
        self._drain_until = self._loop.now + min(timeout, len(self) / _CLOSES_PER_SECOND)
        self._on_drained = on_drained
        logger.info("The gateway stops: %d connections are closed and reconnect elsewhere", len(self))
        self._drain(self._drain_until)

    def _drain(self, until: float) -> None:
        """Close as many connections in each slice of time as are needed to finish on time."""
        left = list(self)
        if not left or self._loop.now > until + LONGEST_END:
            logger.info("The gateway has stopped: %d connections did not answer the close", len(left))
            for connection in left:
                self._close(connection)
            on_drained, self._on_drained = self._on_drained, None
            if on_drained is not None:
                on_drained()
            return
        open_ones = [one for one in left if not one.is_closing]
        slices = max(1, math.ceil((until - self._loop.now) * SLICES))
        for connection in open_ones[: math.ceil(len(open_ones) / slices)]:
            connection.close(Reconnect.number, "the gateway is restarting")

    def _slice_of(self, connection: Connection) -> dict[int, Connection]:
        return self._slices[connection.fd % SLICES]

    def _close(self, connection: Connection) -> None:
        if self._slice_of(connection).get(connection.fd) is not connection:
            return
        del self._slice_of(connection)[connection.fd]
        self._ending.pop(connection, None)
        self._loop.unregister(connection.fd)
        os.close(connection.fd)
        connection.gone()
        self._on_closed(connection)
