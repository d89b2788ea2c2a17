"""
A gunicorn worker that slow clients cannot block.

gunicorn reads a request and writes its response in one of its few threads: four sockets with half a request line each
would block a gateway of four threads. This worker gives a connection to a thread when the whole head has arrived. Its
pool has spare threads, so that as many as ``threads`` allows run the application while others wait for slow bodies and
slow readers; :mod:`.client_waits` bounds those. Connections without a request are bounded per address.

With TLS in the worker, and on a unix socket, the head cannot be seen before it is read: a thread takes the connection
with the first byte, and waits for the rest as for a slow body.
"""

from __future__ import annotations

import bisect
import errno
import os
import queue
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

from gunicorn.http.errors import ParseException
from werkzeug.exceptions import BadRequest

from ...config import Config
from ..flask.limits import TrustedProxies
from ..flask.state import all_states, start_hubs
from .client_waits import MAX_WAITING, ClientWaits
from .compat import DEFER, ThreadWorker, drop_idle, freeze_settings, keepalived, pending, read_ahead
from .handover import HANDED_OVER

#: Bytes of a head that are examined; gunicorn refuses a longer one.
_EXAMINED = 65_536
#: Bytes a second that a client must send or read on average, beside ``Config.request_timeout``.
_SLOWEST = 4_096
#: Seconds that a client has to read a response before its further bytes reset the connection.
_LINGER = 2.0
#: Sockets that linger at once.
_MAX_LINGERING = 200
#: Connections of one address that may wait for the head of a request at once.
_MAX_HEADS_PER_ADDRESS = 256
#: Seconds that connections without a request are kept when the worker stops.
_LAST_REQUESTS = 1.0
#: Fraction of ``worker_connections`` beyond which the oldest idle connections are closed.
_CROWDED = 0.75


class Worker(ThreadWorker):  # type: ignore[misc]  # it has no types
    """gunicorn's gthread worker, with bounds on the time and the threads that clients take."""

    def init_process(self) -> None:
        """Start in the new process."""
        self._config = Config.load({}, {})
        self._waits = ClientWaits()
        #: One token for each request that may run in the application.
        self._turns: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._current = threading.local()
        #: Sockets with a complete response and a client that has not closed, with their deadlines; the oldest first.
        self._lingering: deque[tuple[socket.socket, float]] = deque()
        #: Monotonic seconds at which connections without a request end, once the worker stops.
        self._idle_until: float | None = None
        freeze_settings(self.cfg)
        for _ in range(self.cfg.threads):
            self._turns.put(None)
        super().init_process()

    def get_thread_pool(self) -> ThreadPoolExecutor:
        """Return a pool with spare threads for slow clients."""
        return ThreadPoolExecutor(self.cfg.threads + MAX_WAITING)

    def load_wsgi(self) -> None:
        """Load the application, start its hub, take its settings, and watch request bodies and responses."""
        super().load_wsgi()
        start_hubs()
        application = self.wsgi
        for state in all_states:
            self._config = state.config
        proxies = TrustedProxies(self._config.trusted_proxies)

        def watched(environ: dict[str, Any], start_response: Any) -> Any:
            exchange: _Exchange | None = getattr(self._current, "exchange", None)
            if exchange is None:  # HTTP/2
                return application(environ, start_response)
            forwarded_for = environ.get("HTTP_X_FORWARDED_FOR", "")
            exchange.find_address = partial(proxies.client_of, environ.get("REMOTE_ADDR", ""), forwarded_for)
            if environ.get("CONTENT_LENGTH") or environ.get("HTTP_TRANSFER_ENCODING"):
                environ["wsgi.input"] = exchange.body = _Body(exchange, environ)
                start_response = partial(_respond, exchange.body, exchange.request, start_response)
            iterable = application(environ, start_response)
            if HANDED_OVER in environ:
                return _HandedOver(iterable)
            if isinstance(iterable, environ["wsgi.file_wrapper"]):
                exchange.send(_size_of(iterable))
                return iterable
            return _Response(exchange, iterable)

        self.wsgi: Callable[..., Any] = watched

    def handle(self, conn: Any) -> Any:
        """Serve a request, or defer the connection until the rest of the head arrives. In a thread."""
        conn.close = partial(self._close, conn)
        until = conn.__dict__.setdefault("head_until", time.monotonic() + self._config.request_timeout)
        if not self._has_head(conn):
            return DEFER if time.monotonic() < until else False
        del conn.head_until
        conn.data_ready = True  # gunicorn would make an epoll object to check the same
        # During its handshake TLS has the socket in another object, which other threads cannot reach.
        taken = socket.socket(fileno=os.dup(conn.sock.fileno())) if self.cfg.is_ssl else conn.sock
        self._waits.enter(conn, taken, None, self._config.request_timeout)
        try:
            return super().handle(conn)
        finally:
            self._waits.leave(conn)
            if taken is not conn.sock:
                taken.close()

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Sort a connection that waits for a head by its deadline, which is later than an idle one's."""
        super().finish_request(conn, fs)
        waiting = pending(self)
        if waiting and waiting[-1] is conn and hasattr(conn, "head_until"):
            waiting.pop()
            conn.timeout = conn.head_until
            bisect.insort(waiting, conn, key=attrgetter("timeout"))  # gunicorn checks the first one only

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Run the application once a turn is free."""
        self._waits.leave(conn)
        seconds = self._config.request_timeout
        exchange = self._current.exchange = _Exchange(req, conn.sock, self._waits, self._turns, seconds)
        try:
            exchange.run()
            is_kept = super().handle_request(req, conn)
        finally:
            exchange.end()
        return is_kept and (exchange.body is None or exchange.body.is_read)

    def notify(self) -> None:
        """Disconnect clients that missed their deadlines. In the main thread, at least once a second."""
        now = time.monotonic()
        self._waits.expire()
        self._close_idle()
        while self._lingering and (self._lingering[0][1] < now or len(self._lingering) > _MAX_LINGERING):
            self._lingering.popleft()[0].close()
        super().notify()

    def _close_idle(self) -> None:
        """
        Close the oldest connections without a request: of an address with too many, and of all if few places are left.
        """
        waiting = pending(self)
        if not self.alive:  # it stops: a request that is on its way is still served
            self._idle_until = self._idle_until or time.monotonic() + _LAST_REQUESTS
            for conn in (*waiting, *keepalived(self)):
                conn.timeout = min(conn.timeout, self._idle_until)
        if len(waiting) > _MAX_HEADS_PER_ADDRESS:
            by_address: dict[str, list[Any]] = {}
            for conn in waiting:
                by_address.setdefault(conn.client[0] if conn.client else "", []).append(conn)
            for connections in by_address.values():
                for conn in connections[:-_MAX_HEADS_PER_ADDRESS]:
                    drop_idle(self, waiting, conn)
        for idle in (keepalived(self), waiting):
            while idle and self.nr_conns > _CROWDED * self.worker_connections:
                drop_idle(self, idle, idle[0])

    def _close(self, conn: Any, graceful: bool = False) -> None:
        """
        Close a connection, later if its client still sends: a reset would discard the response. gunicorn itself waits
        for that in its main thread, two seconds for each: after fifteen such clients the worker counts as dead.

        Source: RFC 9112, 9.6.
        """
        try:
            conn.sock.getpeername()  # fails if the hub has the socket
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            graceful = False
        if graceful:
            self._lingering.append((conn.sock, time.monotonic() + _LINGER))
        else:
            conn.sock.close()

    def _has_head(self, conn: Any) -> bool:
        """Return whether the complete head has arrived; if that is hidden, whether the first byte has."""
        is_hidden = self.cfg.is_ssl or conn.sock.family == socket.AF_UNIX
        already_read = read_ahead(conn)
        if b"\r\n\r\n" in already_read or (is_hidden and conn.parser is not None):
            return True
        try:
            seen = conn.sock.recv(_EXAMINED, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        if is_hidden:
            return True
        is_whole = b"\r\n\r\n" in already_read + seen or len(seen) == _EXAMINED or _is_at_end(conn.sock)
        if not is_whole or hasattr(conn, "is_patient"):
            # The bytes that have arrived must not wake the poller again.
            conn.is_patient = True
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1 if is_whole else len(seen) + 1)
        return is_whole


@dataclass(eq=False, slots=True)
class _Exchange:
    """
    One request and its response. It holds a turn while the application runs, and none while it waits for the client.

    Args:
        request: gunicorn's request.
        taken: The client's socket.
        waits: Bounds the waits.
        turns: Gives the turns.
        seconds: Time that the client may take to read the response, beside a second for each 4,096 bytes.
    """

    request: Any
    taken: socket.socket
    waits: ClientWaits
    turns: queue.SimpleQueue[None]
    seconds: float
    #: Returns the client's address. Most requests wait for no client, and do not need it.
    find_address: Callable[[], str | None] = lambda: None
    body: _Body | None = None
    _address: str | None = None
    _has_turn: bool = False
    #: Added to ``seconds``: for the sent bytes, less the time that it took to send them.
    _more_seconds: float = 0.0
    _sending_since: float | None = None

    def run(self) -> None:
        """Take a turn, so that the application continues."""
        self.waits.leave(self)
        if self._sending_since is not None:
            self._more_seconds -= time.monotonic() - self._sending_since
            self._sending_since = None
        if not self._has_turn:
            self.turns.get()
            self._has_turn = True

    def wait(self, seconds: float) -> None:
        """Give the turn back, and wait for the client."""
        self._address = self._address or self.find_address()
        self.waits.enter(self, self.taken, self._address, seconds)
        self._give_back()

    def send(self, size: int) -> None:
        """Give the turn back while the server sends ``size`` bytes."""
        self._more_seconds += size / _SLOWEST
        self._sending_since = time.monotonic()
        self.wait(self.seconds + self._more_seconds)

    def end(self) -> None:
        """The response is sent, or the connection is broken."""
        self.waits.leave(self)
        self._give_back()

    def _give_back(self) -> None:
        if self._has_turn:
            self._has_turn = False
            self.turns.put(None)


class _Response:
    """The body of a response. The server asks for the next part when it has sent the last one."""

    def __init__(self, exchange: _Exchange, iterable: Iterable[bytes]) -> None:
        self._exchange = exchange
        self._iterable = iterable
        self._iterator = iter(iterable)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self._exchange.run()
        part = next(self._iterator, None)
        self._exchange.send(len(part or b""))
        if part is None:
            raise StopIteration
        return part

    def close(self) -> None:
        """Close what the application returned."""
        if close := getattr(self._iterable, "close", None):
            self._exchange.run()
            close()


class _HandedOver:
    """The response of a request whose connection the hub has: gunicorn logs the request and writes nothing."""

    def __init__(self, iterable: Iterable[bytes]) -> None:
        self._iterable = iterable

    def __iter__(self) -> Iterator[bytes]:
        for _ in self._iterable:
            pass  # middleware ends its work, for example a span, behind the last part
        raise BrokenPipeError(errno.EPIPE, "the hub has the connection")  # what a write would raise

    def close(self) -> None:
        """Close what the application returned."""
        if close := getattr(self._iterable, "close", None):
            close()


class _Body:
    """The body of a request, with one deadline: ``Config.request_timeout`` and a second for each 4,096 bytes."""

    def __init__(self, exchange: _Exchange, environ: dict[str, Any]) -> None:
        self._exchange = exchange
        self._body = environ["wsgi.input"]
        self._left = int(environ.get("CONTENT_LENGTH") or -1)  # negative: unknown
        self._seconds = exchange.seconds + max(0, self._left) / _SLOWEST
        self._until: float | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    @property
    def is_read(self) -> bool:
        """Whether the application has read the complete body; an unread rest would hold a thread."""
        return self._left == 0

    def read(self, size: int | None = None) -> bytes:
        """Read like a file."""
        return self._in_time(self._body.read, size)

    def readline(self, size: int | None = None) -> bytes:
        """Read like a file."""
        return self._in_time(self._body.readline, size)

    def readlines(self, hint: int | None = None) -> list[bytes]:
        """Read all lines; the hint is ignored."""
        return list(self)

    def _in_time(self, read: Callable[[int | None], bytes], size: int | None) -> bytes:
        now = time.monotonic()
        if self._until is None or self._left < 0:
            self._until = now + self._seconds
        self._exchange.wait(self._until - now)
        try:
            data = read(size)
        except ParseException as exc:  # in Flask an answer; any other error would be a traceback and a 500
            raise BadRequest(f"The chunked body is malformed: {exc}") from None
        finally:
            self._exchange.run()
        if self._left > 0:
            self._left = max(0, self._left - len(data))
        elif not data:
            self._left = 0
        return data


def _respond(body: _Body, request: Any, start_response: Any, *arguments: Any) -> Any:
    """Begin the response. It announces the end of the connection if the application has not read the body."""
    if not body.is_read:
        request.force_close()
    return start_response(*arguments)


def _size_of(file: Any) -> int:
    """Return the size of a file that the server sends by itself; 0 if it is unknown."""
    with suppress(AttributeError, OSError):
        return int(os.fstat(file.filelike.fileno()).st_size)
    return 0


def _is_at_end(taken: socket.socket) -> bool:
    poll = select.poll()
    poll.register(taken, select.POLLRDHUP)
    return bool(poll.poll(0))
