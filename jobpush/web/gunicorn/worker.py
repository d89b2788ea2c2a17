"""
gunicorn's threads, guarded from those who send their request slowly, or never to its end.

gunicorn reads a request in one of its few threads, for as long as that takes: four sockets with half a request line
each would stop a gateway of four threads. So here a thread gets a connection when the head of its request is there,
as far as the kernel can tell; and what is not read in time is cut off.

Inside TLS that ends in the worker, and on a unix socket, whose reader the kernel wakes for each byte, no head can be
seen before it is read: a thread gets the connection with the first byte, and a slow sender keeps it until
``Config.request_timeout``. There a proxy belongs in front, which reads heads by itself, as nginx, Caddy and Traefik do.
"""

from __future__ import annotations

import bisect
import math
import os
import queue
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from operator import attrgetter
from typing import Any

from gunicorn.workers import gthread

from ...config import Config
from .handover import SocketTaken

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
#: What tells gunicorn to let a connection wait without a thread. Before version 24 new ones do so by themselves.
_WAIT = getattr(gthread, "_DEFER", None)


class Worker(gthread.ThreadWorker):  # type: ignore[misc]  # it has no types
    """gunicorn's gthread worker, whose threads nobody holds for longer than ``Config.request_timeout``."""

    def init_process(self) -> None:
        """Begin, in the new process."""
        self._request_timeout = Config.load({}, {}).request_timeout
        #: By who reads: the socket that is read, and until when that may take.
        self._deadlines: dict[object, tuple[socket.socket, float]] = {}
        #: Sockets on which all is said and whose clients have not hung up, and until when they may; the oldest first.
        self._lingering: deque[tuple[socket.socket, float]] = deque()
        # gunicorn calls a method for each look at a setting, thirty times a request. None of them changes from here on.
        self.cfg.__dict__.update({name: setting.get() for name, setting in self.cfg.settings.items()})
        super().init_process()

    def get_thread_pool(self) -> Any:
        """The threads that handle connections."""
        return _Threads(self.cfg.threads) if _WAIT is not None else super().get_thread_pool()

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
            return _WAIT if time.monotonic() < until else False
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
        waiting = getattr(self, "pending_conns", None)
        if waiting and waiting[-1] is conn and hasattr(conn, "head_until"):
            waiting.pop()
            conn.timeout = conn.head_until
            bisect.insort(waiting, conn, key=attrgetter("timeout"))  # gunicorn looks at the first one only

    def handle_request(self, req: Any, conn: Any) -> Any:
        """The head is read: the application may take its time."""
        self.forget(conn)
        try:
            return super().handle_request(req, conn)
        except SocketTaken:
            conn.close = partial(_close_at_once, conn)  # what is left is nobody's: there is nobody to wait for
            raise

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
        if _WAIT is None:
            return True
        is_hidden = self.cfg.is_ssl or conn.sock.family == socket.AF_UNIX
        read_ahead = _read_ahead(conn)
        if b"\r\n\r\n" in read_ahead or (is_hidden and conn.parser is not None):
            return True
        try:
            seen = conn.sock.recv(_LOOKED_AT, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        if is_hidden:
            return True
        is_whole = b"\r\n\r\n" in read_ahead + seen or len(seen) == _LOOKED_AT or _is_at_end(conn.sock)
        if not is_whole or hasattr(conn, "is_patient"):
            # What has been seen is not to wake anybody again.
            conn.is_patient = True
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1 if is_whole else len(seen) + 1)
        return is_whole


class _Threads:
    """
    As much of :class:`concurrent.futures.ThreadPoolExecutor` as gunicorn makes use of: a future with its lock and its
    condition for each request is a twentieth of what a handshake costs.
    """

    def __init__(self, count: int) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[..., Any], *args: Any) -> _Job:
        """Call a function in one of the threads."""
        job = _Job(function, args)
        self._jobs.put(job)
        return job

    def shutdown(self, wait: bool = True) -> None:
        """End the threads when all is done."""
        for _ in self._threads:
            self._jobs.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()
            del job  # not to be kept until the next comes


class _Job:
    """As much of a future as gunicorn makes use of."""

    __slots__ = ("_args", "_error", "_function", "_is_done", "_listeners", "_value")

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._function, self._args = function, args
        self._value: Any = None
        self._error: BaseException | None = None
        self._is_done = False
        self._listeners: list[Callable[[_Job], None]] = []

    def run(self) -> None:
        """Call the function, and then whoever wants to know."""
        try:
            self._value = self._function(*self._args)
        except BaseException as exc:  # it is for who asks for the result
            self._error = exc
        self._is_done = True
        self._tell()

    def add_done_callback(self, listener: Callable[[_Job], None]) -> None:
        """Call somebody once it is done; at once if it is."""
        self._listeners.append(listener)
        if self._is_done:
            self._tell()

    def cancelled(self) -> bool:
        """Nobody can."""
        return False

    def result(self) -> Any:
        """What the function has given, or its error; only when it is done."""
        if self._error is not None:
            raise self._error
        return self._value

    def _tell(self) -> None:
        """By whichever thread comes first: taking one out of a list is atomic."""
        while self._listeners:
            try:
                listener = self._listeners.pop()
            except IndexError:
                return
            listener(self)


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


def _close_at_once(conn: Any, graceful: bool = False) -> None:
    conn.sock.close()


def _read_ahead(conn: Any) -> bytes:
    """What of the next request has been read behind the last one."""
    unreader = getattr(conn.parser, "unreader", None)
    return b"" if unreader is None else bytes(unreader.buf.getvalue())


def _is_at_end(taken: socket.socket) -> bool:
    poll = select.poll()
    poll.register(taken, select.POLLRDHUP)
    return bool(poll.poll(0))


def _shut_down(taken: socket.socket) -> None:
    try:
        taken.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it was faster
