"""Checks of a running gateway through everything in front of it."""

from __future__ import annotations

import http.client
import json
import select
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import SplitResult, urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from .finding import Finding, failed, ok, skipped, warning

#: Seconds to wait for each answer.
TIMEOUT = 5.0
_UPGRADE = (
    "let the proxy forward the upgrade; nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; "
    'proxy_set_header Connection "upgrade"'
)
_BUFFERING = "turn off response buffering for /jobpush/events; nginx: proxy_buffering off"
_IDLE = "raise the proxy's idle limit above 60 s; nginx: proxy_read_timeout 120s"


def check_proxy(url: str, key: str, origin: str | None, idle: float) -> Iterator[Finding]:
    """
    Check health, WebSocket upgrade, buffering and the idle limit.

    Args:
        url: Address of the gateway as browsers see it, with the path that is before ``/app``.
        key: Public name of the application.
        origin: Origin of the page; ``None``: that of ``url``.
        idle: Seconds to keep a WebSocket open without sending anything but answers to pings; 0: skip.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        yield failed("url", f"{url!r} is not the address of a gateway", "give --url https://host[:port][/path]")
        return
    origin = origin or f"{parts.scheme}://{parts.netloc}"
    try:
        status, body = _get(parts, "/jobpush/health/ready")
    except (OSError, http.client.HTTPException) as exc:
        yield failed("url", f"{url} is unreachable: {exc}", "start the gateway or the proxy, or correct --url")
        return
    if status == 200:
        yield ok("url", f"the gateway at {url} is ready")
    elif status == 503:
        yield failed("url", f"the gateway at {url} is not ready: {body[:200]}", "read the log of the gateway")
    else:
        yield failed(
            "url", f"/jobpush/health/ready answers {status}", "forward /app, /apps and /jobpush to the gateway"
        )
        return
    yield from _check_websocket(parts, key, origin, idle)
    yield _check_buffering(parts)


def _get(parts: SplitResult, path: str) -> tuple[int, str]:
    with closing(_http(parts)) as connection:
        connection.request("GET", parts.path.rstrip("/") + path)
        answer = connection.getresponse()
        return answer.status, answer.read(10_000).decode(errors="replace")


def _http(parts: SplitResult) -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.netloc, timeout=TIMEOUT)


def _check_websocket(parts: SplitResult, key: str, origin: str, idle: float) -> Iterator[Finding]:
    try:
        with closing(_WebSocket(parts, key, origin)) as websocket:
            first = json.loads(websocket.receive(TIMEOUT) or "{}")
            if first.get("event") == "pusher:error":
                error = first.get("data") or {}
                message = f"the gateway refuses with {error.get('code')}: {error.get('message')}"
                yield failed("websocket", message, "correct the key, or add the origin to JOBPUSH_ALLOWED_ORIGINS")
            elif first.get("event") != "pusher:connection_established":
                yield failed("websocket", "the upgrade succeeds, but no greeting arrives", _BUFFERING)
            else:
                yield ok("websocket", "upgrade and greeting arrive")
                yield _check_idle(websocket, idle)
    except (OSError, ValueError, RemoteProtocolError, LocalProtocolError) as exc:
        yield failed("websocket", f"no WebSocket: {exc}", _UPGRADE)


def _check_idle(websocket: _WebSocket, idle: float) -> Finding:
    if not idle:
        return skipped("idle limit", "not measured", "add --idle 70 to keep a connection open for 70 s")
    start = time.monotonic()
    while (left := start + idle - time.monotonic()) > 0:
        text = websocket.receive(left)
        if websocket.is_closed:
            return failed("idle limit", f"the connection is cut after {time.monotonic() - start:.0f} s", _IDLE)
        if text and json.loads(text).get("event") == "pusher:ping":
            websocket.send('{"event":"pusher:pong","data":{}}')
    return ok("idle limit", f"a quiet connection stays open for {idle:g} s")


def _check_buffering(parts: SplitResult) -> Finding:
    with closing(_http(parts)) as connection:
        try:
            connection.request("GET", f"{parts.path.rstrip('/')}/jobpush/events?channels=doctor")
            answer = connection.getresponse()
            if answer.status != 200:
                return warning(
                    "buffering", f"/jobpush/events answers {answer.status}", "forward /jobpush to the gateway"
                )
            answer.readline()
        except TimeoutError:
            return failed("buffering", f"an event stream gives nothing within {TIMEOUT:.0f} s", _BUFFERING)
        except (OSError, http.client.HTTPException) as exc:
            return warning("buffering", f"the event stream fails: {exc}", _BUFFERING)
    return ok("buffering", "an event stream arrives at once")


class _WebSocket:
    """A blocking WebSocket client, for one connection."""

    def __init__(self, parts: SplitResult, key: str, origin: str) -> None:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        self._socket: socket.socket = socket.create_connection((parts.hostname, port), TIMEOUT)
        if parts.scheme == "https":
            context = ssl.create_default_context()
            self._socket = context.wrap_socket(self._socket, server_hostname=parts.hostname)
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self.is_closed = False
        try:
            self._upgrade(parts, key, origin)
        except BaseException:
            self.close()
            raise

    def _upgrade(self, parts: SplitResult, key: str, origin: str) -> None:
        target = f"{parts.path.rstrip('/')}/app/{key}?protocol=7&client=doctor&version=1"
        request = Request(host=parts.netloc, target=target, extra_headers=[(b"Origin", origin.encode())])
        self._socket.sendall(self._protocol.send(request))
        for event in self._events(TIMEOUT):
            if isinstance(event, RejectConnection):
                raise ConnectionError(f"the answer to the upgrade is HTTP {event.status_code}")
            if isinstance(event, AcceptConnection):
                return
        raise ConnectionError("the upgrade gets no answer")

    def receive(self, timeout: float) -> str | None:
        """Return the next message; ``None``: the connection is closed, or the time is over."""
        parts = []
        for event in self._events(timeout):
            if isinstance(event, TextMessage):
                parts.append(event.data)
                if event.message_finished:
                    return "".join(parts)
        return None

    def send(self, text: str) -> None:
        """Send a message."""
        self._socket.sendall(self._protocol.send(TextMessage(text)))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _events(self, timeout: float) -> Iterator[Event]:
        deadline = time.monotonic() + timeout
        while True:
            yield from self._pending()
            left = deadline - time.monotonic()
            if self.is_closed or left <= 0:
                return
            pending = isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()
            if not pending and not select.select([self._socket], [], [], left)[0]:
                return
            data = self._socket.recv(65_536)
            self._protocol.receive_data(data or None)
            self.is_closed = self.is_closed or not data

    def _pending(self) -> Iterator[Event]:
        for event in self._protocol.events():
            if isinstance(event, Ping):
                self._socket.sendall(self._protocol.send(event.response()))
            self.is_closed = self.is_closed or isinstance(event, CloseConnection)
            yield event
