"""
A non-blocking connection to Redis for an event loop. It reconnects by itself.

redis-py connects (TLS, AUTH, SELECT) in a short-lived thread. Then hiredis reads the replies from large chunks, because
redis-py takes several times as long per message.
"""

from __future__ import annotations

import logging
import random
import select
import socket
import ssl
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import hiredis

from ..scripts import Command
from .compat import open_socket
from .errors import advice, explain
from .topology import Address, Topology, join_address

logger = logging.getLogger("jobpush.redis")

#: Bytes of one read, and of all reads of one wake-up: messages are delivered before more are read.
_CHUNK = 262_144
_LONGEST_READ = 4 * _CHUNK
#: Seconds of silence after which a PING is sent, and after which the connection counts as dead.
_PING_AFTER = 4.0
_DEAD_AFTER = 8.0
#: Seconds to connect; shortest and longest delay between two attempts.
_CONNECT_TIMEOUT = 5.0
_FIRST_DELAY = 0.05
_LONGEST_DELAY = 1.0

_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Loop(Protocol):
    """The part of the event loop that a connection uses; see :class:`jobpush.gateway.loop.Loop`."""

    now: float

    def call_soon(self, call: Callable[[], None]) -> bool:
        """Call from the loop's thread; return ``False`` if the loop has ended."""

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call after a delay."""

    def register(self, fd: int, pollable: Any, events: int) -> None:
        """Watch a descriptor."""

    def modify(self, fd: int, events: int) -> None:
        """Watch a descriptor for other events."""

    def unregister(self, fd: int) -> None:
        """Stop watching a descriptor."""


class AsyncConnection:
    """
    Connects, sends bytes, reads replies and detects a dead connection. Subclasses handle the replies.

    Args:
        loop: The event loop.
        url: As :class:`Topology` reads it.
        name: Kind of connection, for the log.
        address: Of the primary, in a cluster.
    """

    def __init__(self, loop: Loop, url: str, name: str, address: Address | None = None) -> None:
        self._loop = loop
        self._name = name
        topology = Topology.parse(url)
        #: For logs: the servers and the database, without the password.
        self.server = topology.name if address is None else join_address(*address)
        self._pool = topology.make_pool(_CONNECT_TIMEOUT, address=address)
        self._socket: socket.socket | None = None
        self._reader = hiredis.Reader()
        self._buffer = bytearray(_CHUNK)
        self._out: list[bytes] = []
        self._is_writing = False
        self._received_at = 0.0
        self._delay = _FIRST_DELAY
        self._is_stopped = False
        #: Whether Redis has accepted something on this connection. Until then a reconnect does not reset the delay.
        self.is_working = False
        #: The advice logged since the connection last worked. The first failure is logged, and each new advice.
        self._logged: set[str] = set()
        #: Number of connections so far.
        self.connects = 0

    # -- for the owner -------------------------------------------------------------------------------

    @property
    def reconnects(self) -> int:
        """Number of connections after the first."""
        return max(0, self.connects - 1)

    @property
    def is_up(self) -> bool:
        """Whether there is a connection."""
        return self._socket is not None

    def start(self) -> None:
        """Connect in a thread; retry until it works."""
        threading.Thread(target=self._connect, name=f"jobpush-connect-{self._name}", daemon=True).start()

    def stop(self) -> None:
        """Close the connection and do not reconnect."""
        self._is_stopped = True
        self._close()

    def reconnect(self, reason: object) -> None:
        """Replace the connection, if there is one."""
        if self._socket is not None:
            self._break(reason)

    def write(self, command: Command) -> None:
        """Add a command to those that :meth:`flush` sends."""
        self._out.append(hiredis.pack_command(tuple(command)))  # type: ignore[arg-type]  # its stub knows one word

    def flush(self) -> None:
        """Send what was written, as far as the socket accepts it."""
        if self._out and not self._is_writing:
            self._send()

    def _send(self) -> None:
        if self._socket is None:
            return
        data = b"".join(self._out)
        try:
            sent = self._socket.send(data)
        except _WOULD_BLOCK:
            sent = 0
        except OSError as exc:
            self._break(exc)
            return
        self._out = [data[sent:]] if sent < len(data) else []
        if self._is_writing is not bool(self._out):
            self._is_writing = not self._is_writing
            events = select.POLLIN | select.POLLOUT if self._is_writing else select.POLLIN
            self._loop.modify(self._socket.fileno(), events)

    def tick(self) -> None:
        """Check that Redis still answers. Call it about once a second."""
        if self._socket is None:
            return
        silence = self._loop.now - self._received_at
        if silence > _DEAD_AFTER:
            self._break(f"no answer for {_DEAD_AFTER:.0f} s")
        elif silence > _PING_AFTER:
            self._ping()

    # -- for subclasses ------------------------------------------------------------------------------

    def _accepted(self) -> None:
        """Record that Redis has accepted something: the connection works."""
        self.is_working, self._delay = True, _FIRST_DELAY
        if self._logged:
            self._logged.clear()
            logger.warning("The %s connection to Redis works again", self._name)
        else:
            logger.info("The %s connection to Redis works", self._name)

    def _opened(self) -> None:
        """Handle a new connection, without any state of the former one."""
        raise NotImplementedError

    def _received(self, reply: Any) -> None:
        """Handle one reply or push message."""
        raise NotImplementedError

    def _lost(self) -> None:
        """Handle the loss of the connection."""
        raise NotImplementedError

    def _ping(self) -> None:
        """Send a PING."""
        raise NotImplementedError

    # -- from the loop -------------------------------------------------------------------------------

    def on_ready(self, events: int) -> None:
        """Read what has arrived, up to a bound; then send what is left to send."""
        if events & ~select.POLLOUT:
            self._read()
        if events & select.POLLOUT:
            self._send()

    def on_failure(self, exc: Exception) -> None:
        """Reconnect after an unexpected error, ours or a protocol error of hiredis."""
        logger.error("The %s connection to Redis failed", self._name, exc_info=exc)
        self.reconnect(exc)

    def _read(self) -> None:
        total = 0
        while self._socket is not None and total < _LONGEST_READ:
            try:
                size = self._socket.recv_into(self._buffer)
            except _WOULD_BLOCK:
                return
            except OSError as exc:
                self._break(exc)
                return
            if not size:
                self._break("closed by Redis")
                return
            total += size
            self._received_at = self._loop.now
            self._reader.feed(self._buffer, 0, size)  # type: ignore[arg-type]  # takes any buffer
            self._take_replies()
            if size < len(self._buffer) and not isinstance(self._socket, ssl.SSLSocket):
                return  # TLS returns one record at a time, and the loop does not see the bytes that TLS has read ahead

    def _take_replies(self) -> None:
        gets, received = self._reader.gets, self._received
        while self._socket is not None and (reply := gets()) is not False:  # handling a reply may close the connection
            received(reply)

    def _connect(self) -> None:
        try:
            taken = open_socket(self._pool)
        except Exception as exc:  # only the loop retries
            self._loop.call_soon(partial(self._refused, exc))
            return
        if not self._loop.call_soon(partial(self._connected, taken)):
            taken.close()

    def _connected(self, taken: socket.socket) -> None:
        if self._is_stopped:
            taken.close()
            return
        taken.setblocking(False)
        self.connects += 1
        self._socket = taken
        self._reader = hiredis.Reader()
        self._out, self._is_writing = [], False
        self._received_at = self._loop.now
        self._loop.register(taken.fileno(), self, select.POLLIN)
        self._opened()

    def _refused(self, reason: object) -> None:
        self._log("cannot be opened", reason)
        self._retry()

    def _break(self, reason: object) -> None:
        self._log("broke", reason)
        self._close()
        self._lost()
        self._retry()

    def _log(self, event: str, reason: object) -> None:
        hint = advice(reason)
        if not self._logged or (hint and hint not in self._logged):
            logger.warning(
                "The %s connection to Redis %s %s and is retried: %s", self._name, self.server, event, explain(reason)
            )
        self._logged.add(hint or "")

    def _close(self) -> None:
        if self._socket is not None:
            self._loop.unregister(self._socket.fileno())
            self._socket.close()
            self._socket = None
            self.is_working = False

    def _retry(self) -> None:
        if self._is_stopped:
            return
        delay = self._delay * random.uniform(0.5, 1.0)  # noqa: S311 - spreads many gateways, protects nothing
        self._delay = min(self._delay * 2, _LONGEST_DELAY)
        self._loop.call_later(delay, self.start)
