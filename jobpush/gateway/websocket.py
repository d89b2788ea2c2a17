"""WebSockets in the hub."""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeAlias

from wsproto.frame_protocol import Opcode, ParseFailed

from ..protocol.server import ServerProtocol
from .broadcast import Broadcast
from .connection import Connection, ConnectionHost
from .frames import FrameReader, Oversized, close_code, close_frame, pong_frame, text_frame
from .outbox import Outbox

#: Channels of a connection up to which checking them all for events is cheaper than queuing.
_FEW_CHANNELS = 8
#: Bytes of messages that are held behind a subscription that is under way; with more, reading pauses until its end.
_MAX_HELD = 65_536
#: Bytes counted for a message in addition to its own.
_HELD_EXTRA = 200

#: Close code for a message that takes too long: policy violation. Source: RFC 6455, 7.4.1.
ENDLESS_MESSAGE = (1008, "the message has no end")

#: A frame, or the reason why no further one can be read.
_Item: TypeAlias = tuple[Opcode, str | bytes] | ParseFailed | Oversized


class _Held:
    """Frames received during a pending subscription, in order; the last one may be unreadable."""

    __slots__ = ("_items", "size")

    def __init__(self) -> None:
        self._items: deque[_Item] = deque()
        #: Approximate bytes.
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

    __slots__ = ("_has_received_close", "_held", "_inbox", "_is_unreadable", "_reader")

    def __init__(
        self, host: ConnectionHost, fd: int, protocol: ServerProtocol, on_gone: Callable[[], None] | None = None
    ) -> None:
        super().__init__(host, fd, protocol, on_gone)
        self._reader: FrameReader | None = None
        #: Messages that wait for the end of a subscription; ``None``: none.
        self._held: _Held | None = None
        #: Received frames after the one at which reading paused.
        self._inbox: Iterator[tuple[Opcode, str | bytes]] | None = None
        #: Whether an error makes all further bytes unreadable.
        self._is_unreadable = False
        self._has_received_close = False

    def send(self, text: bytes) -> None:
        self._waiting().put(text_frame(text))

    def _encoded(self, broadcast: Broadcast, stream_id: bytes | None) -> bytes:
        if stream_id == broadcast.stream_id:
            return broadcast.frame  # all connections share the bytes, also below
        return broadcast.frame_without_id if stream_id is None else text_frame(broadcast.text_with_id(stream_id))

    def note_position(self, channel: str, stream_id: bytes) -> None:
        pass  # the reply to the subscription contains it

    def deliver(self, broadcasts: list[Broadcast], frames: bytes) -> None:
        if self._outbox is not None or (len(self.channels) > 1 and self._has_more_events()):
            self.queue(broadcasts)  # one write for the events of several channels
            return
        try:
            sent = os.write(self.fd, frames)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.host.lose(self)
            return
        if sent < len(frames):
            self._keep(broadcasts, sent)

    def _has_more_events(self) -> bool:
        """Return whether another of its channels may have events in this wake-up."""
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
        self._leave()
        self._waiting().put(close_frame(code, reason))
        self.host.expect_end(self)

    def _keep(self, broadcasts: list[Broadcast], sent: int) -> None:
        """
        Queue the bytes that the socket did not take: the rest of the cut frame, then complete ones.

        It is not flushed in this wake-up: the kernel reports when there is room.
        """
        outbox = self._outbox = Outbox()
        self._watch(self._events | select.POLLOUT)
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

    def tick(self, now: float) -> None:
        """Do whatever is due, and close a client if its message takes too long."""
        reader = self._reader
        if reader is not None and self._is_reading and now - reader.since > self.host.config.message_timeout:
            self._is_unreadable = True
            self.close(*ENDLESS_MESSAGE)
        super().tick(now)

    def _finished(self) -> None:
        if self._has_received_close:
            self.host.lose(self)

    def _read(self) -> None:
        if self._must_wait:
            self._watch(self._events & ~select.POLLIN)
            return
        data = self._receive()
        if not data:
            self.host.lose(self)
        elif not self._is_unreadable:
            self._reader = self._reader or FrameReader(self.host.config.max_message, self.host.loop.now)
            self._inbox = self._reader.feed(data)
            self._take_frames()

    @property
    def _must_wait(self) -> bool:
        return super()._must_wait or (self._held is not None and self._held.size > _MAX_HELD)

    @property
    def _is_reading(self) -> bool:
        """Whether reading is not paused."""
        return self._inbox is None and bool(self._events & select.POLLIN)

    def _resume_reading(self) -> None:
        if self._reader is not None and not self._is_reading:
            self._reader.since = self.host.loop.now  # the client did not cause the pause
        self._take_held()
        if self._inbox is not None and not self._must_wait:
            self._take_frames()
        if not self._must_wait:
            super()._resume_reading()

    def _take_held(self) -> None:
        """Process the messages that waited for a subscription, up to the next subscription."""
        while self._held is not None and self._actions is None and not super()._must_wait:
            item = self._held.take()
            if not self._held:
                self._held = None
            if not isinstance(item, tuple):
                self._give_up_reading(item)
                continue
            try:
                self._take(*item)
            except ParseFailed as exc:  # an invalid close frame; the caller serves other connections too
                self._give_up_reading(exc)

    def _take_frames(self) -> None:
        """Process the received frames, until reading has to pause."""
        try:
            for opcode, payload in self._inbox or ():
                if self._reader is not None and self._reader.is_between_messages:
                    self._reader.since = self.host.loop.now
                if self._is_held:
                    self._take_early(opcode, payload)
                else:
                    self._take(opcode, payload)
                if self._must_wait:
                    return
        except (ParseFailed, Oversized) as exc:
            if self._is_held:
                self._is_unreadable = True
                self._hold(exc)
            else:
                self._give_up_reading(exc)
        self._inbox = None
        if self._reader is not None and (self._is_unreadable or self._reader.is_idle):
            self._reader = None

    @property
    def _is_held(self) -> bool:
        """Whether messages have to wait behind an earlier one."""
        return self._actions is not None or self._held is not None

    def _hold(self, item: _Item) -> None:
        self._held = self._held or _Held()
        self._held.put(item)

    def _take_early(self, opcode: Opcode, payload: str | bytes) -> None:
        """
        Answer pings, because Redis may delay a subscription beyond the client's pong timeout; hold all other messages.
        """
        if opcode in (Opcode.PING, Opcode.PONG):
            self._take(opcode, payload)
            return
        actions = self.protocol.receive_early(payload, self.host.loop.now) if isinstance(payload, str) else None
        if actions is None:
            self._hold((opcode, payload))
        else:
            self.host.traffic.client_messages += 1
            self.perform(actions)

    def _give_up_reading(self, exc: ParseFailed | Oversized) -> None:
        self._is_unreadable = True
        if isinstance(exc, ParseFailed):
            self.close(exc.code, str(exc))
        elif not self.is_closing:
            self.perform(self.protocol.receive_oversized(self.host.loop.now))

    def _take(self, opcode: Opcode, payload: str | bytes) -> None:
        if opcode is Opcode.CLOSE:
            self._take_close(bytes(payload))  # type: ignore[arg-type]
        elif self.is_closing:
            return
        elif isinstance(payload, str):
            self.host.traffic.client_messages += 1
            self.perform(self.protocol.receive(payload, self.host.loop.now))
        elif opcode is Opcode.BINARY:
            self.perform(self.protocol.receive_binary(self.host.loop.now))
        else:
            self.protocol.touch(self.host.loop.now)
            if opcode is Opcode.PING:
                self._waiting().put(pong_frame(payload))
                self._ensure_within_bound(self._waiting())

    def _take_close(self, payload: bytes) -> None:
        """Answer a close, or note the answer to our own. Source: RFC 6455, 7.1.1: the server ends the connection."""
        code = close_code(payload)
        self._has_received_close = self._is_unreadable = True
        if self.is_closing:
            self._waiting()  # its flush finds that everything is sent
            return
        self._leave()
        self._waiting().put(close_frame(code))
        self.host.expect_end(self)
