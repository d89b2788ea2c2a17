"""A browser's WebSocket in the hub."""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from wsproto.frame_protocol import Opcode, ParseFailed

from ..protocol.server import ServerProtocol
from .broadcast import Broadcast
from .connection import Connection
from .frames import FrameReader, Oversized, close_code, close_frame, pong_frame, text_frame
from .outbox import Outbox

if TYPE_CHECKING:
    from .hub import Hub

#: Channels of one connection up to which it pays to look whether several of them have something for it.
_FEW_CHANNELS = 8
#: Bytes of messages that are kept behind a join which is under way. With more the client is not read until it ends.
_MAX_HELD = 65_536
#: Bytes that are counted for a message beside its own.
_HELD_EXTRA = 200

#: What a client is closed with whose message does not come to its end. Source: RFC 6455, 7.4.1: a policy of ours.
ENDLESS_MESSAGE = (1008, "the message has no end")


#: A frame, or why none can be read any more.
_Item: TypeAlias = tuple[Opcode, str | bytes] | ParseFailed | Oversized


class _Held:
    """What has come behind a join that is under way, in order: frames, and at the end what can't be read."""

    __slots__ = ("_items", "size")

    def __init__(self) -> None:
        self._items: deque[_Item] = deque()
        #: Bytes, about.
        self.size = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: _Item) -> None:
        self._items.append(item)
        self.size += self._size_of(item)

    def take(self) -> _Item:
        item = self._items.popleft()
        self.size -= self._size_of(item)
        return item

    def _size_of(self, item: _Item) -> int:
        return _HELD_EXTRA + (len(item[1]) if isinstance(item, tuple) else 0)


class WebSocketConnection(Connection):
    """A WebSocket after its handshake."""

    __slots__ = ("_has_heard_close", "_held", "_inbox", "_is_deaf", "_reader")

    def __init__(self, hub: Hub, fd: int, protocol: ServerProtocol, on_gone: Callable[[], None] | None = None) -> None:
        super().__init__(hub, fd, protocol, on_gone)
        self._reader: FrameReader | None = None
        #: What waits for the end of a join; ``None``: nothing.
        self._held: _Held | None = None
        #: Frames that were received behind the one after which the client has to wait.
        self._inbox: Iterator[tuple[Opcode, str | bytes]] | None = None
        #: Whether what comes in can't be understood any more.
        self._is_deaf = False
        self._has_heard_close = False

    def send(self, text: bytes) -> None:
        self._waiting().put(text_frame(text))

    def send_event(self, broadcast: Broadcast, stream_id: bytes | None) -> None:
        outbox = self._waiting()
        outbox.discard(broadcast.key)  # else what is live would take its place, in front of the history
        outbox.put_history(text_frame(broadcast.text_with_id(stream_id)))

    def note_position(self, channel: str, stream_id: bytes) -> None:
        pass  # the protocol has put it into the answer to the join

    def queue(self, broadcasts: Iterable[Broadcast]) -> None:
        outbox = self._waiting()
        for broadcast in broadcasts:
            self._put(outbox, broadcast)
        self._ensure_within_bound(outbox)

    def deliver(self, broadcasts: list[Broadcast], frames: bytes) -> None:
        if self._outbox is not None or (len(self.channels) > 1 and self._hears_more()):
            self.queue(broadcasts)  # what several channels have for one socket goes out in one piece
            return
        try:
            sent = os.write(self.fd, frames)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.hub.lose(self)
            return
        if sent < len(frames):
            self._keep(broadcasts, sent)

    def _hears_more(self) -> bool:
        """Whether another of its channels has yet to be flushed in this wake-up, or may have."""
        channels = self.channels
        if len(channels) > _FEW_CHANNELS:
            return True
        for channel in channels:  # twice as fast as any()
            if channel.fresh is not None:
                return True
        return False

    def close(self, code: int, reason: str) -> None:
        if self.is_closing:
            return
        self._leave_all()
        self._waiting().put(close_frame(code, reason))
        self.hub.expect_end(self)

    def _keep(self, broadcasts: list[Broadcast], sent: int) -> None:
        """
        Put what the socket did not take into the outbox: the rest of the frame that was cut, then whole ones.

        Not to be flushed in this wake-up, for it would be refused again: the kernel tells when there is room.
        """
        outbox = self._outbox = Outbox()
        self._watch(self._events | select.EPOLLOUT)
        for broadcast in broadcasts:
            frame = broadcast.frame
            if sent >= len(frame):
                sent -= len(frame)
            elif sent:
                outbox.put_rest(frame[sent:])
                sent = 0
            else:
                self._put(outbox, broadcast)
        self._ensure_within_bound(outbox)

    def _put(self, outbox: Outbox, broadcast: Broadcast) -> None:
        key, frame = broadcast.key, broadcast.frame
        if key is None:
            outbox.put(frame)
        elif broadcast.pinned:
            outbox.discard(key)
            outbox.put(frame)
        elif key in outbox:
            self.hub.conflated += 1
            outbox.replace(key, broadcast.frame_without_id)
        else:
            outbox.replace(key, frame)

    def tick(self, now: float) -> None:
        """What time asks for; a message that never ends must not be kept for ever."""
        reader = self._reader
        if reader is not None and self._is_heard and now - reader.since > self.hub.config.message_timeout:
            self._is_deaf = True
            self.close(*ENDLESS_MESSAGE)
        super().tick(now)

    def _said_goodbye(self) -> None:
        if self._has_heard_close:
            self.hub.lose(self)

    def _read(self) -> None:
        if self._must_wait:
            self._watch(self._events & ~select.EPOLLIN)
            return
        data = self._receive()
        if not data:
            self.hub.lose(self)
        elif not self._is_deaf:
            self._reader = self._reader or FrameReader(self.hub.config.max_message, self.hub.loop.now)
            self._inbox = self._reader.feed(data)
            self._take_frames()

    @property
    def _must_wait(self) -> bool:
        return super()._must_wait or (self._held is not None and self._held.size > _MAX_HELD)

    @property
    def _is_heard(self) -> bool:
        """Whether all that the client sends is looked at as it comes."""
        return self._inbox is None and bool(self._events & select.EPOLLIN)

    def _go_on_reading(self) -> None:
        if self._reader is not None and not self._is_heard:
            self._reader.since = self.hub.loop.now  # it was not the client that let us wait
        self._take_held()
        if self._inbox is not None and not self._must_wait:
            self._take_frames()
        if not self._must_wait:
            super()._go_on_reading()

    def _take_held(self) -> None:
        """Act on what a join has kept waiting, up to the next one."""
        while self._held is not None and self._actions is None and not super()._must_wait:
            item = self._held.take()
            if not self._held:
                self._held = None
            if not isinstance(item, tuple):
                self._give_up_reading(item)
                continue
            try:
                self._take(*item)
            except ParseFailed as exc:  # a close frame may; who has let the client wait has others to see to
                self._give_up_reading(exc)

    def _take_frames(self) -> None:
        """Act on what was received, until the client has to wait."""
        try:
            for opcode, payload in self._inbox or ():
                if self._reader is not None and self._reader.is_between_messages:
                    self._reader.since = self.hub.loop.now
                if self._is_held:
                    self._take_early(opcode, payload)
                else:
                    self._take(opcode, payload)
                if self._must_wait:
                    return
        except (ParseFailed, Oversized) as exc:
            if self._is_held:
                self._is_deaf = True
                self._hold(exc)
            else:
                self._give_up_reading(exc)
        self._inbox = None
        if self._reader is not None and (self._is_deaf or self._reader.is_idle):
            self._reader = None

    @property
    def _is_held(self) -> bool:
        """Whether what comes in has to wait, since something before it does."""
        return self._actions is not None or self._held is not None

    def _hold(self, item: _Item) -> None:
        self._held = self._held or _Held()
        self._held.put(item)

    def _take_early(self, opcode: Opcode, payload: str | bytes) -> None:
        """Answer pings, for Redis may keep a join waiting for longer than a client waits for a pong; hold all else."""
        if opcode in (Opcode.PING, Opcode.PONG):
            self._take(opcode, payload)
            return
        actions = self.protocol.receive_early(payload, self.hub.loop.now) if isinstance(payload, str) else None
        if actions is None:
            self._hold((opcode, payload))
        else:
            self.hub.client_messages += 1
            self.perform(actions)

    def _give_up_reading(self, exc: ParseFailed | Oversized) -> None:
        self._is_deaf = True
        if isinstance(exc, ParseFailed):
            self.close(exc.code, str(exc))
        elif not self.is_closing:
            self.perform(self.protocol.receive_oversized(self.hub.loop.now))

    def _take(self, opcode: Opcode, payload: str | bytes) -> None:
        if opcode is Opcode.CLOSE:
            self._take_close(bytes(payload))  # type: ignore[arg-type]
        elif self.is_closing:
            return
        elif isinstance(payload, str):
            self.hub.client_messages += 1
            self.perform(self.protocol.receive(payload, self.hub.loop.now))
        elif opcode is Opcode.BINARY:
            self.perform(self.protocol.receive_binary(self.hub.loop.now))
        else:
            self.protocol.touch(self.hub.loop.now)
            if opcode is Opcode.PING:
                self._waiting().put(pong_frame(payload))
                self._ensure_within_bound(self._waiting())

    def _take_close(self, payload: bytes) -> None:
        """Answer a close, or note the answer to ours. Source: RFC 6455, 7.1.1: the server ends the connection."""
        code = close_code(payload)
        self._has_heard_close = self._is_deaf = True
        if self.is_closing:
            self._waiting()  # its flush finds that all is said
            return
        self._leave_all()
        self._waiting().put(close_frame(code))
        self.hub.expect_end(self)
