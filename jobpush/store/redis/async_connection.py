"""
One connection to Redis inside somebody's event loop: it never blocks, and it comes back by itself.

redis-py makes the connection (URL forms, TLS, AUTH, SELECT) in a short-lived thread; from then on replies are
read by hiredis from large chunks, for redis-py takes several times as long per message.
"""

from __future__ import annotations

import logging
import random
import select
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any, Protocol

import hiredis

from ..scripts import Command
from .compat import open_socket
from .errors import explain
from .topology import Topology

logger = logging.getLogger("jobpush.redis")

#: Bytes read from Redis at once, and in one wake-up; so that what has waited is delivered before more is read.
_CHUNK = 262_144
_LONGEST_READ = 4 * _CHUNK
#: Seconds without a word from Redis after which it is asked, and after which the connection counts as dead.
_PING_AFTER = 4.0
_DEAD_AFTER = 8.0
#: Seconds that a connection may take to be made, and that lie between two attempts: the first, and at most.
_CONNECT_TIMEOUT = 5.0
_FIRST_DELAY = 0.05
_LONGEST_DELAY = 1.0

_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Timer(Protocol):
    """A call that is due later."""

    def cancel(self) -> None:
        """Don't call."""


class Loop(Protocol):
    """What a link needs of the loop it lives in: :class:`jobpush.gateway.loop.Loop` is one."""

    now: float

    def call_soon(self, call: Callable[[], None]) -> bool:
        """Call from the loop's thread; ``False`` if it has ended."""

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call in some seconds."""

    def register(self, fd: int, pollable: Any, events: int) -> None:
        """Watch a descriptor."""

    def modify(self, fd: int, events: int) -> None:
        """Watch it for other events."""

    def unregister(self, fd: int) -> None:
        """No longer watch it."""


class AsyncConnection:
    """
    The connection itself: making it, keeping it alive, bytes in and out. What they mean is for subclasses.

    Args:
        loop: Where it lives.
        url: As redis-py takes it.
        name: For the log.
    """

    def __init__(self, loop: Loop, url: str, name: str) -> None:
        self._loop = loop
        self._name = name
        topology = Topology.parse(url)
        #: For logs: the servers and the database, without the password.
        self.server = topology.name
        self._pool = topology.make_pool(_CONNECT_TIMEOUT)
        self._socket: socket.socket | None = None
        self._reader = hiredis.Reader()
        self._buffer = bytearray(_CHUNK)
        self._out: list[bytes] = []
        self._is_writing = False
        self._heard_at = 0.0
        self._delay = _FIRST_DELAY
        self._is_stopped = False
        #: Whether this connection has been of use; one that has not is no news, and does not shorten the delay.
        self._is_proven = False
        #: Whether it was said that Redis is away, and nothing since.
        self._is_missed = False
        #: How often the connection was made again.
        self.reconnects = -1

    # -- for the owner -------------------------------------------------------------------------------

    @property
    def is_up(self) -> bool:
        """Whether the connection stands, as far as can be known."""
        return self._socket is not None

    def start(self) -> None:
        """Begin to connect, and go on trying for ever."""
        threading.Thread(target=self._connect, name=f"jobpush-connect-{self._name}", daemon=True).start()

    def stop(self) -> None:
        """Close the connection, for good."""
        self._is_stopped = True
        if self._socket is not None:
            self._close()

    def remake(self, reason: str) -> None:
        """Give up a connection that leads to the wrong place, and make another."""
        if self._socket is not None:
            self._break(reason)

    def write(self, command: Command) -> None:
        """Put a command behind those that :meth:`flush` will send."""
        self._out.append(hiredis.pack_command(tuple(command)))  # type: ignore[arg-type]  # its stub knows one word

    def flush(self) -> None:
        """Send what was written, as far as the socket takes it."""
        if not self._out or self._socket is None or self._is_writing:
            return
        data = b"".join(self._out)
        try:
            sent = self._socket.send(data)
        except _WOULD_BLOCK:
            sent = 0
        except OSError as exc:
            self._break(str(exc))
            return
        self._out = [data[sent:]] if sent < len(data) else []
        self._watch_writing(bool(self._out))

    def tick(self) -> None:
        """Find out whether Redis is still there; to be called about once a second."""
        if self._socket is None:
            return
        silence = self._loop.now - self._heard_at
        if silence > _DEAD_AFTER:
            self._break(f"no answer for {_DEAD_AFTER:.0f} s")
        elif silence > _PING_AFTER:
            self._ping()

    # -- for subclasses ------------------------------------------------------------------------------

    def _prove(self) -> None:
        """Redis has done what it was asked: the connection is worth something."""
        self._is_proven, self._delay = True, _FIRST_DELAY
        if self._is_missed:
            self._is_missed = False
            logger.warning("the %s link to Redis is up again", self._name)
        else:
            logger.info("the %s link to Redis is up", self._name)

    def _opened(self) -> None:
        """The connection stands, for the first time or again; nothing of the former one's state is left."""
        raise NotImplementedError

    def _received(self, reply: Any) -> None:
        """One reply or push message."""
        raise NotImplementedError

    def _lost(self) -> None:
        """The connection is gone."""
        raise NotImplementedError

    def _ping(self) -> None:
        """Send a PING, in the form that the state of the connection asks for."""
        raise NotImplementedError

    # -- from the loop -------------------------------------------------------------------------------

    def on_ready(self, events: int) -> None:
        """Read all there is, up to a bound; then write what is left to be written."""
        if events & ~select.POLLOUT:
            self._read()
        if events & select.POLLOUT and self._socket is not None:
            self._is_writing = False
            if self._out:
                self.flush()
            if not self._is_writing and self._socket is not None:
                self._loop.modify(self._socket.fileno(), select.POLLIN)

    def on_failure(self, exc: Exception) -> None:
        """An error of ours, or of hiredis about what it reads: begin anew."""
        logger.error("the %s link to Redis failed", self._name, exc_info=exc)
        if self._socket is not None:
            self._break(str(exc))

    # -- inside --------------------------------------------------------------------------------------

    def _read(self) -> None:
        total = 0
        while self._socket is not None and total < _LONGEST_READ:
            try:
                size = self._socket.recv_into(self._buffer)
            except _WOULD_BLOCK:
                return
            except OSError as exc:
                self._break(str(exc))
                return
            if not size:
                self._break("closed by Redis")
                return
            total += size
            self._heard_at = self._loop.now
            self._reader.feed(self._buffer, 0, size)  # type: ignore[arg-type]  # takes any buffer
            self._take_replies()
            if size < len(self._buffer) and not isinstance(self._socket, ssl.SSLSocket):
                return  # TLS hands out record by record, and epoll does not see what it has read ahead

    def _take_replies(self) -> None:
        gets, received = self._reader.gets, self._received
        while self._socket is not None and (reply := gets()) is not False:  # what is received may break the link
            received(reply)

    def _watch_writing(self, is_writing: bool) -> None:
        if is_writing is not self._is_writing and self._socket is not None:
            self._is_writing = is_writing
            events = select.POLLIN | select.POLLOUT if is_writing else select.POLLIN
            self._loop.modify(self._socket.fileno(), events)

    def _connect(self) -> None:
        try:
            taken = open_socket(self._pool)
        except Exception as exc:  # whatever it is, the loop must hear of it, for nobody else tries again
            reason = explain(exc)
            self._loop.call_soon(lambda: self._refused(reason))
            return
        if not self._loop.call_soon(lambda: self._connected(taken)):
            taken.close()

    def _connected(self, taken: socket.socket) -> None:
        if self._is_stopped:
            taken.close()
            return
        taken.setblocking(False)
        self.reconnects += 1
        self._socket = taken
        self._reader = hiredis.Reader()
        self._out, self._is_writing = [], False
        self._heard_at = self._loop.now
        self._is_proven = False
        self._loop.register(taken.fileno(), self, select.POLLIN)
        self._opened()

    def _refused(self, reason: str) -> None:
        if not self._is_missed:
            logger.warning("the %s link can't reach Redis, and keeps trying: %s", self._name, reason)
        self._is_missed = True
        self._try_again()

    def _break(self, reason: str) -> None:
        if not self._is_missed:  # else one line has been said about it
            logger.warning("the %s link to Redis broke, and is made again: %s", self._name, reason)
        self._is_missed = True
        self._close()
        self._lost()
        self._try_again()

    def _close(self) -> None:
        if self._socket is not None:
            self._loop.unregister(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _try_again(self) -> None:
        if self._is_stopped:
            return
        delay = self._delay * random.uniform(0.5, 1.0)  # noqa: S311 - spreads many gateways, hides nothing
        self._delay = min(self._delay * 2, _LONGEST_DELAY)
        self._loop.call_later(delay, self.start)
