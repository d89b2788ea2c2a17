"""A WebSocket client that does what a browser does, and what no browser would."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Message,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.extensions import Extension, PerMessageDeflate

from .site import KEY

#: Seconds after which a test gives up; nothing waits as long unless it is broken.
TIMEOUT = 60.0


class Client:
    """One connection to a gateway."""

    def __init__(
        self,
        port: int,
        *,
        user: str | None = None,
        key: str = KEY,
        origin: str | None = None,
        headers: Mapping[str, str] | None = None,
        path: str | None = None,
        receive_buffer: int | None = None,
        offers_deflate: bool = False,
        tls: ssl.SSLContext | None = None,
        **query: str,
    ) -> None:
        query = {"protocol": "7", **query}
        sent = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        if user:
            sent.append((b"Cookie", f"user={quote(user)}".encode()))
        if origin:
            sent.append((b"Origin", origin.encode()))
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(("127.0.0.1", port))
        if tls:
            self.socket = tls.wrap_socket(self.socket)
        self._connection = WSConnection(ConnectionType.CLIENT)
        self._text = ""
        self._socket_id: str | None = None
        self.close_code: int | None = None
        self.extensions: list[Any] = []
        target = path or f"/app/{key}?{urlencode({k: v for k, v in query.items() if v})}"
        extensions: list[Extension] = [PerMessageDeflate()] if offers_deflate else []
        offered = Request(host=f"127.0.0.1:{port}", target=target, extra_headers=sent, extensions=extensions)
        self.socket.sendall(self._connection.send(offered))
        #: Received messages that the test has not read yet.
        self.received: list[dict[str, Any]] = []
        self._is_open = False
        self.pongs: list[bytes] = []
        while not self._is_open:
            self._pump()

    @property
    def socket_id(self) -> str:
        """The socket id of the first message."""
        if self._socket_id is None:
            self._socket_id = data_of(self.receive())["socket_id"]
        return self._socket_id

    def receive(self) -> dict[str, Any]:
        """The next message; an ``EOFError`` once the connection is closed."""
        while not self.received:
            if self.close_code is not None:
                raise EOFError(f"closed with {self.close_code}")
            self._pump()
        return self.received.pop(0)

    def receive_until(self, is_wanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """All messages up to one that is wanted."""
        messages = [self.receive()]
        while not is_wanted(messages[-1]):
            messages.append(self.receive())
        return messages

    def send(self, event: str, data: object = None, **members: object) -> None:
        """Send a message of the protocol."""
        self.send_text(json.dumps({"event": event, "data": data or {}, **members}))

    def send_text(self, text: str) -> None:
        """Send any text."""
        self.socket.sendall(self._connection.send(TextMessage(data=text)))

    def send_all(self, messages: Iterable[tuple[str, object]]) -> None:
        """Send many short messages, events with their data, in one go; masked with zeros, for it is quick."""
        self.socket.sendall(frames_of(messages))

    def send_fragment(self, text: str, *, is_last: bool) -> None:
        """Send a part of a message as a frame of its own."""
        self.socket.sendall(self._connection.send(TextMessage(data=text, message_finished=is_last)))

    def send_event(self, event: Message | Ping) -> None:
        """Send any frame of wsproto's."""
        self.socket.sendall(self._connection.send(event))

    def subscribe(self, channel: str, **data: str) -> list[dict[str, Any]]:
        """Join a channel; gives all messages up to the answer."""
        self.send("pusher:subscribe", {"channel": channel, **data})
        answers = ("pusher_internal:subscription_succeeded", "pusher:subscription_error")
        return self.receive_until(lambda m: m["event"] in answers and m["channel"] == channel)

    def wait_for_close(self) -> int:
        """Read to the end; gives the close code."""
        while self.close_code is None:
            self._pump()
        return self.close_code

    def wait_for_pong(self) -> bytes:
        """The payload of the next pong."""
        while not self.pongs:
            self._pump()
        return self.pongs.pop(0)

    def hang_up(self) -> None:
        """Drop the connection without a close."""
        self.socket.close()

    def _pump(self) -> None:
        data = self.socket.recv(65_536)
        self._connection.receive_data(data or None)
        for event in self._connection.events():
            match event:
                case AcceptConnection():
                    self._is_open = True
                    self.extensions = list(event.extensions)
                case RejectConnection():
                    raise ConnectionRefusedError(event.status_code)
                case TextMessage():
                    self._text += event.data
                    if event.message_finished:
                        text, self._text = self._text, ""
                        self.received.append(json.loads(text) if text.startswith("{") else {"text": text})
                case BytesMessage():
                    raise AssertionError("the server never sends binary")
                case Pong():
                    self.pongs.append(bytes(event.payload))
                case CloseConnection():
                    self.close_code = int(event.code)


def frames_of(messages: Iterable[tuple[str, object]]) -> bytes:
    """What :meth:`Client.send_all` sends."""
    texts = (json.dumps({"event": event, "data": data}).encode() for event, data in messages)
    return b"".join(bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text for text in texts)


def events_of(messages: Iterable[dict[str, Any]]) -> list[str]:
    """Their names."""
    return [message["event"] for message in messages]


def data_of(message: dict[str, Any]) -> dict[str, Any]:
    """The decoded data of an event."""
    data: dict[str, Any] = json.loads(message["data"])
    return data


def read_to_the_end(one: socket.socket) -> bytes:
    """What a server sends before it hangs up, be it with what it has not read."""
    data = b""
    try:
        while part := one.recv(65_536):
            data += part
    except ConnectionResetError:
        pass
    return data
