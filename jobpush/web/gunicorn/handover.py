"""
Handover of a browser's socket from the web server to the hub.

gunicorn's workers finish a request when its handler returns, so the hub takes the socket over and needs no thread.
werkzeug's own server would close the connection then, and TLS in the worker needs Python's ``SSLSocket``: there the
request's thread waits until the hub closes the connection.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from flask import Response

from ...errors import ConfigurationError

#: Key in the environment of a request whose socket the hub owns.
HANDED_OVER = "jobpush.handed_over"
#: Bytes that the kernel keeps unsent for one connection. More would be stale when a slow reader receives it.
_UNSENT = 131_072
#: Seconds of silence before the kernel probes the other end.
_KEEPALIVE_IDLE = 60
#: Milliseconds that sent bytes may stay unacknowledged, for example by a closed laptop.
_USER_TIMEOUT = 60_000
_PUMP_SIZE = 65_536


@dataclass(slots=True)
class Handover:
    """
    A socket for the hub.

    Args:
        fd: A non-blocking descriptor; the hub closes it.
        hold: Blocks for as long as the hub needs the request's thread.
        on_gone: Called when the hub has closed ``fd``.
    """

    fd: int
    hold: Callable[[], None]
    on_gone: Callable[[], None] | None


def handed_over(handover: Handover) -> Response:
    """
    Return the response for a request after the hub took its socket, holding the thread if the hub needs it.

    The server cannot write it: the socket is no longer connected. Each server ignores that error, as it does when a
    browser disconnects, and goes on with its next request.
    """
    handover.hold()
    return _HandedOver(status=101)


class _HandedOver(Response):
    """A response that no client receives: without the headers that werkzeug would complete."""

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        environ[HANDED_OVER] = True
        start_response("101 Switching Protocols", [])
        return ()


def take_socket(environ: dict[str, Any]) -> Handover:
    """
    Take the socket of the current request.

    Raises:
        ConfigurationError: If the web server does not expose it.
    """
    taken = ensure_socket(environ)
    _tune(taken)
    if isinstance(taken, ssl.SSLSocket):
        return _pump(taken)
    if "gunicorn.socket" in environ:
        return _detach(taken)
    return _share(taken)


_REMEDY = (
    "for WebSockets serve with gunicorn -c python:jobpush.gunicorn_conf (not under gevent or eventlet), "
    "or run jobpush gateway beside it"
)


def ensure_socket(environ: dict[str, Any]) -> socket.socket:
    """
    Return the socket of a request.

    Raises:
        ConfigurationError: If the web server does not expose it, or has no thread that can wait for the hub.
    """
    taken = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    if not isinstance(taken, socket.socket):
        raise ConfigurationError(f"this web server does not expose its sockets, so pages poll; {_REMEDY}")
    needs_thread = isinstance(taken, ssl.SSLSocket) or "gunicorn.socket" not in environ
    if needs_thread and not environ["wsgi.multithread"]:
        raise ConfigurationError(
            f"one connection would hold the only thread of this web server, so pages poll; {_REMEDY}"
        )
    return taken


def ensure_real_threads() -> None:
    """
    Check that gevent or eventlet has not replaced threads and sockets.

    Raises:
        ConfigurationError: If one has.
    """
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    is_patched = (gevent and gevent.is_module_patched) or (eventlet and eventlet.is_monkey_patched)
    if is_patched and any(map(is_patched, ("socket", "thread", "threading", "select"))):
        raise ConfigurationError(
            f"gevent or eventlet has replaced the threads that the gateway's event loop needs, so pages poll; {_REMEDY}"
        )


def _tune(taken: socket.socket) -> None:
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if taken.family not in (socket.AF_INET, socket.AF_INET6):
        return
    taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in (
        ("TCP_NOTSENT_LOWAT", _UNSENT),
        ("TCP_KEEPIDLE", _KEEPALIVE_IDLE),
        ("TCP_USER_TIMEOUT", _USER_TIMEOUT),
    ):
        if option := getattr(socket, name, None):
            taken.setsockopt(socket.IPPROTO_TCP, option, value)


def _detach(taken: socket.socket) -> Handover:
    """
    Put a socket that was never connected in place of the server's, under the same descriptor.

    ``detach()`` would not do: gunicorn's gthread worker counts a connection twice if its shutdown fails, and with a
    count below zero it no longer waits for requests when it stops.
    """
    fd = os.dup(taken.fileno())
    os.set_blocking(fd, False)
    placeholder = _placeholder()  # keep a reference: the cache holds only one of two created at once
    os.dup2(placeholder.fileno(), taken.fileno(), inheritable=False)
    return Handover(fd, _do_nothing, None)


@cache
def _placeholder() -> socket.socket:
    return socket.socket(socket.AF_UNIX)


def _share(taken: socket.socket) -> Handover:
    """Duplicate the descriptor, and let the server's thread wait for the hub."""
    fd = os.dup(taken.fileno())
    os.set_blocking(fd, False)
    is_gone = threading.Event()

    def hold() -> None:
        is_gone.wait()
        _shut_down(taken)  # the server would append a response

    return Handover(fd, hold, is_gone.set)


def _pump(taken: ssl.SSLSocket) -> Handover:
    """Give the hub one end of a socket pair, and copy bytes between the other end and the browser."""
    ours, hubs = socket.socketpair()
    hubs.setblocking(False)

    def hold() -> None:
        with ours:
            _carry(taken, ours)
        _shut_down(taken)

    return Handover(hubs.detach(), hold, None)


def _carry(browser: ssl.SSLSocket, hub: socket.socket) -> None:
    """Copy bytes both ways until either end closes."""
    browser.setblocking(False)
    hub.setblocking(False)
    to_hub = to_browser = b""
    try:
        while True:
            if not to_hub:
                to_hub = _received(browser)
            if not to_browser:
                to_browser = _received(hub)
            to_hub = to_hub[_sent(hub, to_hub) :]
            to_browser = to_browser[_sent(browser, to_browser) :]
            if browser.pending() and not to_hub:
                continue  # poll does not report bytes that TLS has read ahead
            _wait(browser, hub, to_hub=to_hub, to_browser=to_browser)
    except (OSError, EOFError):
        return  # the hub reads the end of its own socket


def _wait(browser: ssl.SSLSocket, hub: socket.socket, *, to_hub: bytes, to_browser: bytes) -> None:
    poll = select.poll()
    for end, waits_for_it, goes_to_it in ((browser, to_hub, to_browser), (hub, to_browser, to_hub)):
        # Leave out an end with nothing to do: a closed one would be ready all the time.
        if events := (select.POLLIN if not waits_for_it else 0) | (select.POLLOUT if goes_to_it else 0):
            poll.register(end, events)
    poll.poll()


def _received(end: socket.socket) -> bytes:
    try:
        data = end.recv(_PUMP_SIZE)
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return b""
    if not data:
        raise EOFError
    return data


def _sent(end: socket.socket, data: bytes) -> int:
    if not data:
        return 0
    try:
        return end.send(data)
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return 0


def _shut_down(taken: socket.socket) -> None:
    try:
        taken.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # the browser has closed it


def _do_nothing() -> None:
    pass
