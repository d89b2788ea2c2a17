"""Events on their way from Redis to the listeners of a channel, and the listeners as channels see them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol

from ..events import decode
from ..store.messages import Message
from .frames import header_size, text_frame, text_header


class Broadcast:
    """
    An event in the form that a channel's listeners receive: built once, the same bytes for every socket.

    Args:
        channel: Name of the channel.
        message: The message from Redis.
    """

    __slots__ = ("_frame_without_id", "channel", "excluded", "frame", "key", "pinned", "seq", "stream_id")

    def __init__(self, channel: bytes, message: Message) -> None:
        stream_id, task_id, seq, is_snapshot, pinned, excluded, members, _ = message
        self.channel = channel
        self.stream_id = stream_id
        self.seq = seq
        #: A newer broadcast replaces queued ones of the same key, unless they are pinned.
        self.key = (channel, task_id) if is_snapshot else None
        self.pinned = pinned
        #: Socket id of the connection that does not receive it.
        self.excluded = None if excluded == b"-" else excluded.decode()
        if stream_id is None:
            text = b'{"channel":"%b",%b}' % (channel, members)
        else:
            text = b'{"channel":"%b",%b,"id":"%b"}' % (channel, members, stream_id)
        #: The WebSocket frame.
        self.frame = text_header(len(text)) + text
        self._frame_without_id: bytes | None = None

    @property
    def text(self) -> bytes:
        """The message without the frame's header."""
        return self.frame[header_size(self.frame) :]

    def text_with_id(self, stream_id: bytes | None) -> bytes:
        """
        Return the message with another ``id``, or with none.

        A client resumes from the last ``id`` that it has seen. An event that overtakes others must not carry one:
        if the connection broke right after it, the others would be lost.
        """
        text = self.text
        if stream_id == self.stream_id:
            return text
        return text[: -len(_tail(self.stream_id))] + _tail(stream_id)

    @property
    def frame_without_id(self) -> bytes:
        """The frame for connections in which this event overtakes others; built once."""
        frame = self._frame_without_id
        if frame is None:
            frame = self._frame_without_id = text_frame(self.text_with_id(None))
        return frame

    @property
    def published_at(self) -> float | None:
        """
        Unix seconds at which a task reported it, else at which Redis received it; ``None`` if it is in no history.

        Source: Redis manual, "Streams": an id is the server's time in milliseconds, and a number.
        """
        if self.stream_id is None:
            return None
        if self.key is not None:
            with suppress(ValueError, KeyError, TypeError, AttributeError):  # of another program
                if at := decode(decode(self.text)["data"]).get("at"):
                    return float(at)
        return int(self.stream_id.partition(b"-")[0]) / 1000


def _tail(stream_id: bytes | None) -> bytes:
    """Return the end of a message."""
    return b"}" if stream_id is None else b',"id":"%b"}' % stream_id


class Batch:
    """Broadcasts that are sent together, in the order of their ids, with the newest snapshot of each task only."""

    __slots__ = ("_broadcasts", "conflated")

    def __init__(self, broadcasts: Iterable[Broadcast] = ()) -> None:
        self._broadcasts: dict[object, Broadcast] = {}
        #: Broadcasts that newer ones replaced.
        self.conflated = 0
        for broadcast in broadcasts:
            self.add(broadcast)

    def __len__(self) -> int:
        return len(self._broadcasts)

    def add(self, broadcast: Broadcast) -> None:
        """Add a broadcast that is newer than all others."""
        key = broadcast.key
        if key is not None and self._broadcasts.pop(key, None) is not None:
            self.conflated += 1
        self._broadcasts[broadcast if broadcast.pinned else key] = broadcast

    def take(self) -> list[Broadcast]:
        """Return all broadcasts and forget them."""
        broadcasts = list(self._broadcasts.values())
        self._broadcasts.clear()
        self.conflated = 0
        return broadcasts


class Listener(Protocol):
    """The receiver of a channel's messages; :class:`~jobpush.gateway.connection.Connection` is one."""

    is_closing: bool

    @property
    def socket_id(self) -> str:
        """Pusher socket id."""

    def send(self, text: bytes) -> None:
        """Queue a message."""

    def send_bounded(self, text: bytes) -> None:
        """Queue a message that other connections caused; close a connection that has too many of them queued."""

    def queue(self, broadcasts: Iterable[Broadcast]) -> None:
        """Queue live events."""

    def deliver(self, broadcasts: list[Broadcast], frames: bytes) -> None:
        """Send live events, at once if nothing is queued; ``frames`` are the same events as WebSocket frames."""

    def on_failure(self, exc: Exception) -> None:
        """Close the connection after an internal error."""
