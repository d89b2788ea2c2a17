"""
How the hub gets a browser's socket from the web server, without a thread to hold it where that can be.

gunicorn's workers are done with a request as soon as its handler returns, so there the socket changes hands.
werkzeug's own server ends the connection then, and TLS that ends in the worker needs Python's ``SSLSocket``:
there the thread of the request stays until the hub is done.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from flask import Response

from ...errors import ConfigurationError

#: Bytes that the kernel holds unsent for one connection. More would only be stale when a slow reader gets it.
_UNSENT = 131_072
#: Seconds of silence after which the kernel asks whether the other end still exists.
_KEEPALIVE_IDLE = 60
#: Milliseconds that sent bytes may go unacknowledged: a browser whose laptop was closed is not there any more.
_USER_TIMEOUT = 60_000
_PUMP_SIZE = 65_536


class Handover:
    """
    A socket on its way to the hub.

    Args:
        fd: For the hub, non-blocking.
        hold: Serves as long as the hub needs the request's thread; does nothing where it does not.
        on_gone: To be called when the hub has closed ``fd``.
    """

    __slots__ = ("fd", "hold", "on_gone")

    def __init__(self, fd: int, hold: Callable[[], None], on_gone: Callable[[], None] | None) -> None:
        self.fd = fd
        self.hold = hold
        self.on_gone = on_gone


class SocketTaken(StopIteration):
    """Tells gunicorn that there is nothing more to do with a connection, and our worker that it is the hub's."""


class HandedOver(Response):
    """Stands for a response that the hub writes; each server is left in the way that Flask-Sock leaves it."""

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        if "gunicorn.socket" in environ:
            raise SocketTaken
        return super().__call__(environ, start_response)


def take_socket(environ: dict[str, Any]) -> Handover:
    """
    Take the socket of the request that is being served.

    Raises:
        ConfigurationError: If the web server can't give it.
    """
    taken = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    if not isinstance(taken, socket.socket):
        raise ConfigurationError(
            "the web server does not give its socket to jobpush; serve with gunicorn's gthread or sync worker"
        )
    _tune(taken)
    if isinstance(taken, ssl.SSLSocket):
        return _pump(taken)
    if "gunicorn.socket" in environ:
        return _detach(taken)
    return _share(taken)


def ensure_real_threads() -> None:
    """
    Make sure that gevent or eventlet have not replaced threads and sockets under us.

    Raises:
        ConfigurationError: If they have.
    """
    gevent = sys.modules.get("gevent.monkey")
    eventlet = sys.modules.get("eventlet.patcher")
    if (gevent and gevent.is_module_patched("socket")) or (eventlet and eventlet.is_monkey_patched("socket")):
        raise ConfigurationError(
            "jobpush's gateway has an event loop of its own and can't run under gevent or eventlet: "
            "serve with gunicorn --worker-class gthread"
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
    Leave the server a socket that was never connected, under the same descriptor.

    Not ``detach()``: gunicorn's gthread worker shuts down and counts what it has accepted, and counts twice what
    it can't shut down; with a count below zero it no longer waits for requests when it is told to stop.
    """
    fd = os.dup(taken.fileno())
    os.set_blocking(fd, False)
    placeholder = _placeholder()  # held, for of two threads that are the first to ask one gets a socket of its own
    os.dup2(placeholder.fileno(), taken.fileno(), inheritable=False)
    return Handover(fd, _do_nothing, None)


@cache
def _placeholder() -> socket.socket:
    return socket.socket(socket.AF_UNIX)


def _share(taken: socket.socket) -> Handover:
    """Let the hub write while the server's thread waits."""
    fd = os.dup(taken.fileno())
    os.set_blocking(fd, False)
    is_gone = threading.Event()

    def hold() -> None:
        is_gone.wait()
        _shut_down(taken)  # the server would append a response

    return Handover(fd, hold, is_gone.set)


def _pump(taken: ssl.SSLSocket) -> Handover:
    """Give the hub one end of a pair of sockets, and carry the bytes between the other end and the browser."""
    ours, hubs = socket.socketpair()
    hubs.setblocking(False)

    def hold() -> None:
        with ours:
            _carry(taken, ours)
        _shut_down(taken)

    return Handover(hubs.detach(), hold, None)


def _carry(browser: ssl.SSLSocket, hub: socket.socket) -> None:
    """Carry bytes both ways until either end closes."""
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
                continue  # epoll does not see what TLS has read ahead
            _wait(browser, hub, to_hub=to_hub, to_browser=to_browser)
    except (OSError, EOFError):
        return  # the hub hears it as the end of its own socket


def _wait(browser: ssl.SSLSocket, hub: socket.socket, *, to_hub: bytes, to_browser: bytes) -> None:
    poll = select.poll()
    for end, waits_for_it, goes_to_it in ((browser, to_hub, to_browser), (hub, to_browser, to_hub)):
        # An end of which nothing is wanted is left out: one that has closed would be ready all the time.
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
        pass  # the browser was faster


def _do_nothing() -> None:
    pass
