"""
Handover of a browser's socket from the web server to the hub.

gunicorn's workers finish a request when its handler returns, so the hub takes the socket over and needs no thread.
werkzeug's own server would close the connection then, and TLS in the worker needs Python's ``SSLSocket``: there the
request's thread copies the bytes until the connection ends.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import sys
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from flask import Response

from ...errors import ConfigurationError

#: Key in the environment of a request whose socket the hub owns.
HANDED_OVER = "jobpush.handed_over"
#: Options of each socket, as far as the system has them.
_TCP_OPTIONS = [
    (getattr(socket, name), value)
    for name, value in {
        "TCP_NODELAY": 1,
        "TCP_NOTSENT_LOWAT": 131_072,  # unsent bytes; more would be stale when a slow reader receives it
        "TCP_KEEPIDLE": 60,  # seconds of silence before the kernel probes the other end
        "TCP_USER_TIMEOUT": 60_000,  # ms that sent bytes may stay unacknowledged, for example by a closed laptop
    }.items()
    if hasattr(socket, name)
]
_PUMP_SIZE = 65_536


class _HandedOver(Response):
    """A response that no client receives: without the headers that werkzeug would complete."""

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        environ[HANDED_OVER] = True
        start_response("101 Switching Protocols", [])
        return ()


def hand_over(environ: dict[str, Any], adopt: Callable[[int], None]) -> Response:
    """
    Give the socket of the current request to the hub, and return the response of the request.

    The server cannot write it: the socket is no longer connected. Each server ignores that error, as it does when a
    browser disconnects, and goes on with its next request.

    Args:
        environ: The environment of the request.
        adopt: Takes a non-blocking descriptor; the hub closes it.

    Raises:
        ConfigurationError: If the web server does not expose the socket.
    """
    taken = ensure_socket(environ)
    _tune(taken)
    if _needs_thread(environ, taken):
        _pump(taken, adopt)
    else:
        adopt(_detach(taken))
    return _HandedOver(status=101)


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
    if _needs_thread(environ, taken) and not environ["wsgi.multithread"]:
        raise ConfigurationError(
            f"one connection would hold the only thread of this web server, so pages poll; {_REMEDY}"
        )
    return taken


def _needs_thread(environ: dict[str, Any], taken: socket.socket) -> bool:
    return "gunicorn.socket" not in environ or isinstance(taken, ssl.SSLSocket)


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
    if taken.family in (socket.AF_INET, socket.AF_INET6):
        for option, value in _TCP_OPTIONS:
            taken.setsockopt(socket.IPPROTO_TCP, option, value)


def _detach(taken: socket.socket) -> int:
    """
    Put a socket that was never connected in place of the server's, under the same descriptor.

    ``detach()`` would not do: gunicorn's gthread worker counts a connection twice if its shutdown fails, and with a
    count below zero it no longer waits for requests when it stops.
    """
    fd = os.dup(taken.fileno())
    os.set_blocking(fd, False)
    placeholder = _placeholder()  # keep a reference: the cache holds only one of two created at once
    os.dup2(placeholder.fileno(), taken.fileno(), inheritable=False)
    return fd


@cache
def _placeholder() -> socket.socket:
    return socket.socket(socket.AF_UNIX)


def _pump(taken: socket.socket, adopt: Callable[[int], None]) -> None:
    """Give the hub one end of a socket pair, and copy bytes between the other end and the browser until one closes."""
    ours, hubs = socket.socketpair()
    with ours:
        hubs.setblocking(False)
        adopt(hubs.detach())
        _carry(taken, ours)
    _shut_down(taken)


def _carry(browser: socket.socket, hub: socket.socket) -> None:
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
            if isinstance(browser, ssl.SSLSocket) and browser.pending() and not to_hub:
                continue  # poll does not report bytes that TLS has read ahead
            _wait(browser, hub, to_hub=to_hub, to_browser=to_browser)
    except (OSError, EOFError):
        return  # the hub reads the end of its own socket


def _wait(browser: socket.socket, hub: socket.socket, *, to_hub: bytes, to_browser: bytes) -> None:
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
