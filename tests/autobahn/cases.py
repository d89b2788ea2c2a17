"""
Test cases: the bytes that a client sends, and everything that it then receives.

The sections follow Autobahn's test suite; the cases are written from RFC 6455. Autobahn expects an echo server. The
gateway replies to a ping with its payload, to ``pusher:ping`` with ``pusher:pong``, to invalid JSON with an error, and
to an invalid channel name with that name.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from typing import TypeAlias

from tests.gateway.site import KEY
from tests.waiting import PATIENCE

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
#: A masking key that changes every byte.
_MASK = b"\x37\xfa\x21\x3d"

#: What a client receives: ``("pong", payload)``, ``("event", name)``, ``("error", code)``, ``("echo", channel)`` or
#: ``("close", code)``, whose code is ``None`` if the frame has none.
Received: TypeAlias = tuple[str, object]

ANSWER: Received = ("event", "pusher:pong")
NOT_JSON: Received = ("error", 4300)
PROTOCOL_ERROR: Received = ("close", 1002)
NOT_UTF8: Received = ("close", 1007)
TOO_BIG: Sequence[Received] = (("error", 4300), ("close", 1009))
NO_BINARY: Sequence[Received] = (("error", 4300), ("close", 1003))


@dataclass(frozen=True)
class Case:
    """
    One case.

    Args:
        id: Number and title.
        sends: Chunks of bytes, written one by one.
        receives: Everything received. If it contains no close, the client closes, and the server replies with a close.
    """

    id: str
    sends: Sequence[bytes]
    receives: Sequence[Received]


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, size: int | None = None) -> bytes:
    """Return a masked frame; ``size`` is the announced size, if it differs from the real one."""
    size = len(payload) if size is None else size
    first = fin << 7 | rsv << 4 | opcode
    if size < 126:
        header = struct.pack("!BB", first, 0x80 | size)
    elif size < 65_536:
        header = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        header = struct.pack("!BBQ", first, 0x80 | 127, size)
    key = (_MASK * (len(payload) // 4 + 1))[: len(payload)]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return header + _MASK + masked.to_bytes(len(payload), "big")


def message(size: int | None = None) -> bytes:
    """Return the text of a ``pusher:ping`` message with this many bytes."""
    text = b'{"event":"pusher:ping","data":"%b"}'
    return text % (b"*" * (0 if size is None else size - len(text) + 2))


def echo_request(channel: str) -> bytes:
    """Return a message whose reply contains the channel name."""
    return json.dumps({"event": "pusher:subscribe", "data": {"channel": channel}}, ensure_ascii=False).encode()


def fragments(parts: Sequence[bytes], *, opcode: int = TEXT) -> list[bytes]:
    """Return a message in frames with these payloads."""
    opcodes = [opcode] + [CONTINUATION] * (len(parts) - 1)
    last = len(parts) - 1
    return [frame(code, part, fin=i == last) for i, (code, part) in enumerate(zip(opcodes, parts, strict=True))]


def pieces(data: bytes, size: int = 1) -> list[bytes]:
    """Split bytes into pieces of a size."""
    return [data[start : start + size] for start in range(0, len(data), size)]


def ping(payload: bytes = b"") -> bytes:
    return frame(PING, payload)


def close(code: int | None = 1000, reason: bytes = b"") -> bytes:
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


class Peer:
    """A client that sends the bytes of a case, and records what it receives."""

    def __init__(self, connection: socket.socket, file: BufferedReader) -> None:
        self._socket = connection
        self._file = file
        self.extensions = self._handshake()

    def play(self, case: Case) -> list[Received]:
        """Send all bytes of a case; return everything received up to the close."""
        for data in case.sends:
            try:
                self._socket.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                break  # the server has nothing more to send
        if not any(kind == "close" for kind, _ in case.receives):
            self._socket.sendall(close())
        return list(self._receive())

    def send(self, data: bytes) -> None:
        """Send any bytes."""
        self._socket.sendall(data)

    def receive_after(self, data: bytes) -> Received:
        """Send the data repeatedly until something other than a pong arrives; return it."""
        until = time.monotonic() + PATIENCE
        received: Received = ("pong", b"")
        while received[0] == "pong":
            assert time.monotonic() < until, "only pongs arrive"
            self.send(data)
            received = self.receive()
        return received

    def receive(self) -> Received:
        """Return the next received item."""
        first, size = self._file.read(2)
        assert first & 0x70 == 0 and first & 0x80, "a server without extensions sends whole frames, no reserved bits"
        assert size < 128, "a server does not mask"
        if size > 125:
            size = int.from_bytes(self._file.read({126: 2, 127: 8}[size]), "big")
        return _received(first & 0x0F, self._file.read(size))

    def is_at_end(self) -> bool:
        """Wait for the end of the connection; return whether the server sent nothing before it."""
        return self._file.read() == b""

    def _receive(self) -> Iterator[Received]:
        while True:
            received = self.receive()
            yield received
            if received[0] == "close":
                return

    def _handshake(self) -> list[bytes]:
        status = self._file.readline()
        assert status.startswith(b"HTTP/1.1 101 "), status
        headers = list(iter(self._file.readline, b"\r\n"))
        assert self.receive() == ("event", "pusher:connection_established")
        return [line for line in headers if line.lower().startswith(b"sec-websocket-extensions")]


@contextmanager
def connected(port: int, *, extensions: str = "") -> Iterator[Peer]:
    """Open a connection and read the server's first message; close it after the block."""
    offer = f"Sec-WebSocket-Extensions: {extensions}\r\n" if extensions else ""
    request = (
        f"GET /app/{KEY}?protocol=7 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        f"{offer}\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(request.encode())
        with connection.makefile("rb") as file:
            yield Peer(connection, file)


def assert_holds(port: int, case: Case) -> None:
    """Play a case on a new connection, and check everything received."""
    expected = list(case.receives)
    is_clean = not any(kind == "close" for kind, _ in expected)
    with connected(port) as peer:
        assert peer.play(case) == (expected + [("close", 1000)] if is_clean else expected)
        if is_clean:
            assert peer.is_at_end()


def _received(opcode: int, payload: bytes) -> Received:
    if opcode == PONG:
        return "pong", payload
    if opcode == CLOSE:
        payload[2:].decode()
        return "close", int.from_bytes(payload[:2], "big") if payload else None
    assert opcode == TEXT, "a server without binary messages sends only text"
    event = json.loads(payload.decode())
    if event["event"] == "pusher:error":
        return "error", event["data"]["code"]
    if event["event"] == "pusher:subscription_error":
        return "echo", event["channel"]
    return "event", event["event"]
