"""
A gunicorn worker that slow clients cannot block.

gunicorn reads a request in one of its few threads: four sockets with half a request line each would block a gateway of
four threads. This worker gives a connection to a thread when the whole head has arrived, and closes connections that
miss their deadline.

With TLS in the worker, and on a unix socket, the head cannot be seen before it is read: a thread takes the connection
with the first byte, and a slow client blocks it until ``Config.request_timeout``. Put a proxy in front there; nginx,
Caddy and Traefik read heads themselves.
"""

from __future__ import annotations

import bisect
import math
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from operator import attrgetter
from typing import Any

from ...config import Config
from .compat import DEFER, ThreadWorker, freeze_settings, pending, read_ahead

#: Bytes of a head that are looked at; with a longer one it is for gunicorn to say no.
_LOOKED_AT = 65_536
#: Bytes a second that a body must come with, beside the time that every one has. Source: Apache's mod_reqtimeout.
_SLOWEST_BODY = 500
#: Bytes of a body that are read at once: few enough to come in that time at that pace.
_PART = 4_096
#: Seconds that a client has to read our last words before what it still sends is refused.
_LINGER = 2.0
#: Sockets that linger at once.
_MAX_LINGERING = 200


class Worker(ThreadWorker):  # type: ignore[misc]  # it has no types
    """gunicorn's gthread worker, whose threads nobody holds for longer than ``Config.request_timeout``."""

    def init_process(self) -> None:
        """Begin, in the new process."""
        self._request_timeout = Config.load({}, {}).request_timeout
        #: By who reads: the socket that is read, and until when that may take.
        self._deadlines: dict[object, tuple[socket.socket, float]] = {}
        #: Sockets on which all is said and whose clients have not hung up, and until when they may; the oldest first.
        self._lingering: deque[tuple[socket.socket, float]] = deque()
        freeze_settings(self.cfg)
        super().init_process()

    def load_wsgi(self) -> None:
        """Load the application, take its settings where it is Flask's own object, and watch how bodies come."""
        super().load_wsgi()
        application = self.wsgi
        if gateway := getattr(application, "extensions", {}).get("jobpush"):
            self._request_timeout = gateway.config.request_timeout

        def watched(environ: dict[str, Any], start_response: Any) -> Any:
            environ["wsgi.input"] = _Body(self, environ, self._request_timeout)
            return application(environ, start_response)

        self.wsgi: Callable[..., Any] = watched

    def handle(self, conn: Any) -> Any:
        """Serve what has come on a connection, or let it wait for the rest of the head. In a thread."""
        conn.close = partial(self._close, conn)
        until = conn.__dict__.setdefault("head_until", time.monotonic() + self._request_timeout)
        if not self._has_head(conn):
            return DEFER if time.monotonic() < until else False
        del conn.head_until
        conn.data_ready = True  # gunicorn would make an epoll for this connection alone, to see what we have seen
        # Within its handshake TLS has the socket under another object, which nobody can reach.
        taken = socket.socket(fileno=os.dup(conn.sock.fileno())) if self.cfg.is_ssl else conn.sock
        self.expect(conn, taken, time.monotonic() + self._request_timeout)
        try:
            return super().handle(conn)
        finally:
            self.forget(conn)
            if taken is not conn.sock:
                taken.close()

    def finish_request(self, conn: Any, fs: Any) -> None:
        """A thread has let go of a connection. Where that waits, it is for its head: longer than an idle one may."""
        super().finish_request(conn, fs)
        waiting = pending(self)
        if waiting and waiting[-1] is conn and hasattr(conn, "head_until"):
            waiting.pop()
            conn.timeout = conn.head_until
            bisect.insort(waiting, conn, key=attrgetter("timeout"))  # gunicorn looks at the first one only

    def handle_request(self, req: Any, conn: Any) -> Any:
        """The head is read: the application may take its time."""
        self.forget(conn)
        return super().handle_request(req, conn)

    def notify(self) -> None:
        """About once a second, in the main thread: cut off who is too slow, which wakes the thread that reads."""
        now = time.monotonic()
        for reader, (taken, until) in list(self._deadlines.items()):
            if until < now and self._deadlines.pop(reader, None) is not None:
                _shut_down(taken)
        while self._lingering and (self._lingering[0][1] < now or len(self._lingering) > _MAX_LINGERING):
            self._lingering.popleft()[0].close()
        super().notify()

    def expect(self, reader: object, taken: socket.socket, until: float) -> None:
        """Cut a socket off at a time, if :meth:`forget` does not come before."""
        self._deadlines[reader] = taken, until

    def forget(self, reader: object) -> None:
        """All was read."""
        self._deadlines.pop(reader, None)

    def _close(self, conn: Any, graceful: bool = False) -> None:
        """
        Close a connection; what is still under way to us must not make the kernel drop our answer. gunicorn itself
        waits for that in its main thread, two seconds for each: fifteen such clients, and the worker counts as dead.

        Source: RFC 9112, 9.6.
        """
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            graceful = False  # it is broken
        if graceful:
            self._lingering.append((conn.sock, time.monotonic() + _LINGER))
        else:
            conn.sock.close()

    def _has_head(self, conn: Any) -> bool:
        """Whether a thread is worth while; yes where that can't be seen, once the first byte has come."""
        is_hidden = self.cfg.is_ssl or conn.sock.family == socket.AF_UNIX
        already_read = read_ahead(conn)
        if b"\r\n\r\n" in already_read or (is_hidden and conn.parser is not None):
            return True
        try:
            seen = conn.sock.recv(_LOOKED_AT, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        if is_hidden:
            return True
        is_whole = b"\r\n\r\n" in already_read + seen or len(seen) == _LOOKED_AT or _is_at_end(conn.sock)
        if not is_whole or hasattr(conn, "is_patient"):
            # What has been seen is not to wake anybody again.
            conn.is_patient = True
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1 if is_whole else len(seen) + 1)
        return is_whole


class _Body:
    """The body of a request, which has its time from the first read on, and more of it the more has come."""

    def __init__(self, worker: Worker, environ: dict[str, Any], seconds: float) -> None:
        self._worker = worker
        self._body = environ["wsgi.input"]
        self._socket = environ["gunicorn.socket"]
        self._seconds = seconds
        self._until: float | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def read(self, size: int | None = None) -> bytes:
        """As any file's."""
        parts: list[bytes] = []
        left = math.inf if size is None or size < 0 else size
        while left > 0 and (part := self._in_time(self._body.read, int(min(left, _PART)))):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def readline(self, size: int | None = None) -> bytes:
        """As any file's."""
        return self._in_time(self._body.readline, size)

    def readlines(self, hint: int | None = None) -> list[bytes]:
        """As any file's; all of them, whatever the hint."""
        return list(self)

    def _in_time(self, read: Callable[[int | None], bytes], size: int | None) -> bytes:
        if self._until is None:
            self._until = time.monotonic() + self._seconds
        self._worker.expect(self, self._socket, self._until)
        try:
            data = read(size)
        finally:
            self._worker.forget(self)
        self._until += len(data) / _SLOWEST_BODY
        return data


def _is_at_end(taken: socket.socket) -> bool:
    poll = select.poll()
    poll.register(taken, select.POLLRDHUP)
    return bool(poll.poll(0))


def _shut_down(taken: socket.socket) -> None:
    try:
        taken.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it was faster
