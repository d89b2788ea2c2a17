"""Streams of server-sent events in the hub, for networks that block WebSockets."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from ..protocol.actions import Action
from ..protocol.server import ServerProtocol
from .broadcast import Broadcast
from .connection import Connection, ConnectionHost

#: Proxies must neither store nor buffer the stream; the browser reconnects after two seconds.
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-store\r\n"
    b"X-Accel-Buffering: no\r\nConnection: close\r\n%b\r\nretry: 2000\n\n"
)


def event_stream_head(headers: Mapping[str, str]) -> bytes:
    """Return the head of a stream with further headers, and its first lines."""
    return _HEAD % "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")


class EventStreamConnection(Connection):
    """
    A stream of server-sent events: the same messages, one way. Source: HTML standard, "Server-sent events".
    """

    shares_frames = False  # each event has the positions of the connection's other channels

    __slots__ = ("_beat_at", "_positions", "_requests")

    def __init__(
        self,
        host: ConnectionHost,
        fd: int,
        protocol: ServerProtocol,
        on_gone: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(host, fd, protocol, on_gone)
        self._positions: dict[str, bytes] = {}
        #: Processed as messages of the client, one after the other.
        self._requests: deque[str] = deque()
        self._beat_at = host.loop.now

    def begin(self, head: bytes, actions: Iterable[Action], requests: Sequence[str] = ()) -> None:
        self._requests = deque(requests)
        super().begin(head, actions)
        if self._actions is None:
            self._resume_reading()

    def send(self, text: bytes) -> None:
        self._waiting().put(b"data: " + text + b"\n\n")

    def note_position(self, channel: str, stream_id: bytes) -> None:
        self._positions[channel] = stream_id
        self._waiting().put(self._id_line() + b"\n")  # the browser stores an id without data, and fires no event

    def deliver(self, broadcasts: list[Broadcast], frames: bytes) -> None:
        self.queue(broadcasts)

    def close(self, code: int, reason: str) -> None:
        if self.is_closing:
            return
        self._leave()
        self._waiting()  # its flush ends the stream
        self.host.expect_end(self)

    def tick(self, now: float) -> None:
        """
        Do whatever is due, and send a comment to keep proxies from closing the stream, since a browser can't answer a
        ping.
        """
        self.protocol.touch(now)
        super().tick(now)
        if now - self._beat_at >= self.host.config.stream_heartbeat and not self.is_closing:
            self._beat_at = now
            self._waiting().put(b":\n\n")

    def _encoded(self, broadcast: Broadcast, stream_id: bytes | None) -> bytes:
        data = b"data: " + broadcast.text_with_id(stream_id) + b"\n\n"
        if stream_id is None:
            return data
        self._positions[broadcast.channel.decode()] = stream_id
        return self._id_line() + data

    def _id_line(self) -> bytes:
        """
        Return the positions in all channels, because a browser keeps only the last ``id`` of a stream.

        No channel name contains a ``|``.
        """
        return b"id: " + b"|".join(b"%b|%b" % (name.encode(), at) for name, at in self._positions.items()) + b"\n"

    def _finished(self) -> None:
        self.host.lose(self)

    def _resume_reading(self) -> None:
        while self._requests and self._actions is None:
            self.perform(self.protocol.receive(self._requests.popleft(), self.host.loop.now))

    def _read(self) -> None:
        if not self._receive():
            self.host.lose(self)


def read_positions(last_event_id: str) -> dict[str, str]:
    """Return stream ids by channel from the ``id`` of a stream; malformed text gives none, or unknown channels."""
    parts = last_event_id.split("|")
    return dict(zip(parts[::2], parts[1::2], strict=False))
