"""One event on its way from Redis to all who hear a channel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..store.messages import Message
from .frames import header_size, text_frame, text_header

if TYPE_CHECKING:
    from .listeners import Channel


class Broadcast:
    """
    An event as its listeners get it: made once for each channel, the same bytes for every socket.

    Args:
        channel: Who hears it.
        message: What they hear.
    """

    __slots__ = ("_frame_without_id", "channel", "excluded", "frame", "pinned", "key", "seq", "stream_id")

    def __init__(self, channel: Channel, message: Message) -> None:
        stream_id, task_id, seq, is_snapshot, pinned, excluded, members = message
        self.channel = channel
        self.stream_id = stream_id
        self.seq = seq
        #: What of older events it makes needless: those of the same key that are not pinned and still wait.
        self.key = (channel, task_id) if is_snapshot else None
        self.pinned = pinned
        #: Socket id of the connection that is not to hear it.
        self.excluded = None if excluded == b"-" else excluded.decode()
        if stream_id is None:
            text = b'{"channel":"%b",%b}' % (channel.wire_name, members)
        else:
            text = b'{"channel":"%b",%b,"id":"%b"}' % (channel.wire_name, members, stream_id)
        #: The WebSocket frame.
        self.frame = text_header(len(text)) + text
        self._frame_without_id: bytes | None = None

    @property
    def text(self) -> bytes:
        """The message without the frame's header."""
        return self.frame[header_size(self.frame) :]

    def text_with_id(self, stream_id: bytes | None) -> bytes:
        """
        The message with another ``id``, or with none.

        A client resumes from the last ``id`` it has seen. So what overtakes others must not carry one: they
        would be lost if the connection broke right behind it.
        """
        text = self.text
        if stream_id == self.stream_id:
            return text
        return text[: -len(_tail(self.stream_id))] + _tail(stream_id)

    @property
    def frame_without_id(self) -> bytes:
        """The frame for those to whom it overtakes others, made once however many they are."""
        frame = self._frame_without_id
        if frame is None:
            frame = self._frame_without_id = text_frame(self.text_with_id(None))
        return frame


def _tail(stream_id: bytes | None) -> bytes:
    """What a message ends with."""
    return b"}" if stream_id is None else b',"id":"%b"}' % stream_id


def only_newest(broadcasts: Iterable[Broadcast]) -> list[Broadcast]:
    """Those of a list, in the order of their ids, that go out: of each task the newest snapshot only."""
    batch = Batch()
    for broadcast in broadcasts:
        batch.add(broadcast)
    return batch.take()


class Batch:
    """Broadcasts that go out together, in the order of their ids, each task's newest snapshot only."""

    __slots__ = ("_broadcasts", "conflated")

    def __init__(self) -> None:
        self._broadcasts: dict[object, Broadcast] = {}
        #: How many gave way to newer ones.
        self.conflated = 0

    def __len__(self) -> int:
        return len(self._broadcasts)

    def add(self, broadcast: Broadcast) -> None:
        """Add the newest one."""
        key = broadcast.key
        if key is not None and self._broadcasts.pop(key, None) is not None:
            self.conflated += 1
        self._broadcasts[broadcast if broadcast.pinned else key] = broadcast

    def take(self) -> list[Broadcast]:
        """All of them; none are left."""
        broadcasts = list(self._broadcasts.values())
        self._broadcasts.clear()
        self.conflated = 0
        return broadcasts
