"""One browser's connection: bytes in, bytes out, and between them the protocol."""

from __future__ import annotations

import logging
import os
import select
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from wsproto.frame_protocol import Opcode, ParseFailed

from ..protocol.actions import Action, ClientEvent, Close, Join, Leave, Send, SignIn
from ..protocol.server import ServerProtocol
from .broadcast import Broadcast
from .frames import FrameReader, Oversized, close_code, close_frame, pong_frame, text_frame
from .outbox import Outbox

if TYPE_CHECKING:
    from .census import Count
    from .hub import Hub
    from .topics import Channel

logger = logging.getLogger("jobpush.gateway")

#: Bytes read from one client at once.
_READ_SIZE = 16_384
#: What a client that reads nothing is closed with: it may come back after a second.
SLOW_READER = (4100, "slow reader")
#: WebSocket close code for an error of ours. Source: RFC 6455, 7.4.1.
INTERNAL_ERROR = 1011

#: Proxies must neither keep nor hold back what follows; the browser comes back after two seconds.
_EVENT_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-store\r\n"
    b"X-Accel-Buffering: no\r\nConnection: close\r\n\r\nretry: 2000\n\n"
)

#: What every connection is watched for.
READING = select.EPOLLIN | select.EPOLLRDHUP


class Connection(ABC):
    """
    What WebSockets and event streams have in common. Lives in the hub's thread alone.

    Args:
        hub: Where it lives.
        fd: Its socket, non-blocking; closed by the hub.
        protocol: Its protocol, not yet opened.
        on_gone: Called when the hub is done with the socket; where a request thread holds the connection.
    """

    # There are many thousands of them, most of them idle: no __dict__, and what is not needed is None.
    __slots__ = (
        "_actions",
        "_events",
        "_on_gone",
        "_outbox",
        "channels",
        "counts",
        "fd",
        "hub",
        "is_closing",
        "is_signed_in",
        "protocol",
    )

    def __init__(self, hub: Hub, fd: int, protocol: ServerProtocol, on_gone: Callable[[], None] | None = None) -> None:
        self.hub = hub
        self.fd = fd
        self.protocol = protocol
        self._on_gone = on_gone
        #: The channels it hears or is about to; see :meth:`Joins.begin`.
        self.channels: tuple[Channel, ...] = ()
        #: What it counts for; see :class:`Census`.
        self.counts: tuple[Count, ...] = ()
        #: Whether it hears and says nothing any more but its last words.
        self.is_closing = False
        #: Whether :meth:`Hub.sign_in` knows it.
        self.is_signed_in = False
        self._outbox: Outbox | None = None
        #: What the protocol has asked for behind a join that is under way; ``None``: there is none under way.
        self._actions: deque[Action] | None = None
        self._events = READING

    @property
    def socket_id(self) -> str:
        """Its Pusher socket id."""
        return self.protocol.socket_id

    # -- out -----------------------------------------------------------------------------------------

    @abstractmethod
    def send(self, text: bytes) -> None:
        """Queue a message of the protocol."""

    @abstractmethod
    def send_event(self, broadcast: Broadcast, stream_id: bytes | None) -> None:
        """Queue an event of the history, with the id from which the client may resume behind it."""

    @abstractmethod
    def queue(self, broadcasts: Iterable[Broadcast]) -> None:
        """Queue live events; a newer snapshot of a task takes the place of one that waits."""

    @abstractmethod
    def note_position(self, channel: str, stream_id: bytes) -> None:
        """The client has everything of a channel up to this id."""

    @abstractmethod
    def deliver(self, broadcasts: list[Broadcast], frames: bytes) -> None:
        """
        Send live events, at once if nothing waits.

        Args:
            broadcasts: The events.
            frames: The same as WebSocket frames in one piece, made once for all who hear the channel.
        """

    @abstractmethod
    def close(self, code: int, reason: str) -> None:
        """Say goodbye, hear nothing more, and close when everything is sent."""

    def _waiting(self) -> Outbox:
        """The outbox, which is flushed at the end of the wake-up if it was empty."""
        outbox = self._outbox
        if outbox is None:
            outbox = self._outbox = Outbox()
            self.hub.flush_later(self)
        return outbox

    def _ensure_within_bound(self, outbox: Outbox) -> None:
        if outbox.size > self.hub.config.outbox_size + outbox.allowance and not self.is_closing:
            self.hub.close_later(self, *SLOW_READER)

    def give_up(self, code: int, reason: str) -> None:
        """Close without sending what waits; but the frame that was begun is sent to its end."""
        if self._outbox is not None and not self.is_closing:
            self._outbox.drop_frames()
        self.close(code, reason)

    def flush(self) -> None:
        """Send what waits, and be woken when more of it can be sent."""
        outbox = self._outbox
        if outbox is None:
            return
        try:
            is_empty = outbox.send(self.fd)
        except OSError:
            self.hub.lose(self)
            return
        if is_empty:
            self._outbox = None
            self._watch(self._events & ~select.EPOLLOUT)
            if self.is_closing:
                self._said_goodbye()
        else:
            self._watch(self._events | select.EPOLLOUT)

    @abstractmethod
    def _said_goodbye(self) -> None:
        """Everything is sent, and nothing more will be."""

    def _watch(self, events: int) -> None:
        if events != self._events:
            self._events = events
            self.hub.loop.modify(self.fd, events)

    # -- in ------------------------------------------------------------------------------------------

    def on_ready(self, events: int) -> None:
        """Read what the client says; go on sending."""
        if events & select.EPOLLIN and self._events & select.EPOLLIN:
            self._read()
        elif events & ~(select.EPOLLOUT | select.EPOLLIN):
            self.hub.lose(self)
        if events & select.EPOLLOUT:
            self.flush()

    def on_failure(self, exc: Exception) -> None:
        """An error of ours ends this connection, and no other."""
        logger.error("connection %s is closed on account of an error", self.socket_id, exc_info=exc)
        self.hub.close_later(self, INTERNAL_ERROR, "internal error")

    @abstractmethod
    def _read(self) -> None:
        """Take what the socket has."""

    def _receive(self) -> bytes:
        """What has come in; empty if the client is gone."""
        try:
            return os.read(self.fd, _READ_SIZE)
        except OSError:
            return b""

    # -- the protocol --------------------------------------------------------------------------------

    def begin(self, actions: Iterable[Action], requests: Sequence[str] = ()) -> None:
        """Do the first actions, then take ``requests`` as if the client had sent them."""
        self.perform(actions)

    def tick(self, now: float) -> None:
        """What time asks for; about once a second."""
        if self._actions is None and not self.is_closing:
            self.perform(self.protocol.tick(now))

    def perform(self, actions: Iterable[Action]) -> None:
        """Do what the protocol asks for; what stands behind a join waits until :meth:`go_on`."""
        left = iter(actions)
        for action in left:
            match action:
                case Send(text):
                    self.send(text)
                case Join():
                    self._actions = deque(left)
                    self.hub.joins.begin(self, action)
                case Leave(channel):
                    self.hub.joins.leave(self, channel)
                case ClientEvent():
                    self.hub.publish(self, action)
                case Close(code, reason):
                    self.close(code, reason)
                case SignIn(user):
                    self.hub.sign_in(self, user.id)

    def go_on(self) -> None:
        """A join has ended, this way or that: do what has waited for it."""
        actions, self._actions = self._actions, None
        if not self.is_closing:
            self.perform(actions or ())
        if self._actions is None:
            self._go_on_reading()

    def refused(self, channel: str, message: str) -> None:
        """The join that is under way has failed."""
        self.perform(self.protocol.refused(channel, message))
        self.go_on()

    def _go_on_reading(self) -> None:
        """Read what has come during a join."""
        self._watch(self._events | select.EPOLLIN)

    def _leave_all(self) -> None:
        self.is_closing = True
        self._actions = None
        self.hub.joins.leave_all(self)

    def gone(self) -> None:
        """The socket is closed; who holds the connection may let go."""
        self._leave_all()
        self._outbox = None
        if self._on_gone is not None:
            self._on_gone()


class WebSocketConnection(Connection):
    """A WebSocket after its handshake."""

    __slots__ = ("_has_heard_close", "_inbox", "_is_deaf", "_reader")

    def __init__(self, hub: Hub, fd: int, protocol: ServerProtocol, on_gone: Callable[[], None] | None = None) -> None:
        super().__init__(hub, fd, protocol, on_gone)
        self._reader: FrameReader | None = None
        #: Frames that were received behind the one that began a join.
        self._inbox: Iterator[tuple[Opcode, str | bytes]] | None = None
        #: Whether what comes in can't be understood any more.
        self._is_deaf = False
        self._has_heard_close = False

    def send(self, text: bytes) -> None:
        self._waiting().put(text_frame(text))

    def send_event(self, broadcast: Broadcast, stream_id: bytes | None) -> None:
        self._waiting().put_history(text_frame(broadcast.text_with_id(stream_id)))

    def note_position(self, channel: str, stream_id: bytes) -> None:
        pass  # the protocol has put it into the answer to the join

    def queue(self, broadcasts: Iterable[Broadcast]) -> None:
        for broadcast in broadcasts:
            self._put(self._waiting(), broadcast)

    def deliver(self, broadcasts: list[Broadcast], frames: bytes) -> None:
        if self._outbox is not None or len(self.channels) > 1:
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

    def close(self, code: int, reason: str) -> None:
        if self.is_closing:
            return
        self._leave_all()
        self._waiting().put(close_frame(code, reason))
        self.hub.expect_end(self)

    def _keep(self, broadcasts: list[Broadcast], sent: int) -> None:
        """Put what the socket did not take into the outbox: the rest of the frame that was cut, then whole ones."""
        outbox = self._waiting()
        for broadcast in broadcasts:
            frame = broadcast.frame
            if sent >= len(frame):
                sent -= len(frame)
            elif sent:
                outbox.put_rest(frame[sent:])
                sent = 0
            else:
                self._put(outbox, broadcast)

    def _put(self, outbox: Outbox, broadcast: Broadcast) -> None:
        key, frame = broadcast.key, broadcast.frame
        if key is None:
            outbox.put(frame)
        elif broadcast.is_pinned:
            outbox.discard(key)
            outbox.put(frame)
        elif key in outbox:
            outbox.replace(key, text_frame(broadcast.text_with_id(None)))
        else:
            outbox.replace(key, frame)
        self._ensure_within_bound(outbox)

    def _said_goodbye(self) -> None:
        if self._has_heard_close:
            self.hub.lose(self)

    def _read(self) -> None:
        if self._actions is not None:
            self._watch(self._events & ~select.EPOLLIN)  # until the join has ended
            return
        data = self._receive()
        if not data:
            self.hub.lose(self)
        elif not self._is_deaf:
            self._reader = self._reader or FrameReader(self.hub.config.max_message)
            self._inbox = self._reader.feed(data)
            self._take_frames()

    def _go_on_reading(self) -> None:
        if self._inbox is not None:
            self._take_frames()
        if self._actions is None:
            super()._go_on_reading()

    def _take_frames(self) -> None:
        """Act on what was received, until a join is under way."""
        try:
            for opcode, payload in self._inbox or ():
                self._take(opcode, payload)
                if self._actions is not None:
                    return
        except ParseFailed as exc:
            self._is_deaf = True
            self.close(exc.code, str(exc))
        except Oversized:
            self._is_deaf = True
            self.perform(self.protocol.receive_oversized(self.hub.loop.now))
        self._inbox = None
        if self._reader is not None and (self._is_deaf or self._reader.is_idle):
            self._reader = None

    def _take(self, opcode: Opcode, payload: str | bytes) -> None:
        if opcode is Opcode.CLOSE:
            self._take_close(bytes(payload))  # type: ignore[arg-type]
        elif self.is_closing:
            return
        elif isinstance(payload, str):
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


class EventStreamConnection(Connection):
    """
    A stream of server-sent events: the same messages, one way. Source: HTML standard, "Server-sent events".
    """

    __slots__ = ("_beat_at", "_positions", "_requests")

    def __init__(
        self,
        hub: Hub,
        fd: int,
        protocol: ServerProtocol,
        on_gone: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(hub, fd, protocol, on_gone)
        self._positions: dict[str, bytes] = {}
        #: What is taken as if the client had sent it, one after the other.
        self._requests: deque[str] = deque()
        self._beat_at = hub.loop.now

    def begin(self, actions: Iterable[Action], requests: Sequence[str] = ()) -> None:
        self._requests = deque(requests)
        self._waiting().put(_EVENT_STREAM_HEAD)
        self.perform(actions)
        if self._actions is None:
            self._go_on_reading()

    def send(self, text: bytes) -> None:
        self._waiting().put(b"data: " + text + b"\n\n")

    def send_event(self, broadcast: Broadcast, stream_id: bytes | None) -> None:
        self._waiting().put_history(self._encoded(broadcast, stream_id))

    def note_position(self, channel: str, stream_id: bytes) -> None:
        self._positions[channel] = stream_id
        self._waiting().put(self._id_line() + b"\n")  # an id without data is noted by the browser, and no event

    def queue(self, broadcasts: Iterable[Broadcast]) -> None:
        outbox = self._waiting()
        for broadcast in broadcasts:
            key = broadcast.key
            if key is not None and not broadcast.is_pinned and key in outbox:
                outbox.replace(key, self._encoded(broadcast, None))
                continue
            event = self._encoded(broadcast, broadcast.stream_id)
            if key is None or broadcast.is_pinned:
                outbox.discard(key)
                outbox.put(event)
            else:
                outbox.replace(key, event)
            self._ensure_within_bound(outbox)

    def deliver(self, broadcasts: list[Broadcast], frames: bytes) -> None:
        self.queue(broadcasts)

    def close(self, code: int, reason: str) -> None:
        if self.is_closing:
            return
        self._leave_all()
        self._waiting()  # its flush ends the stream
        self.hub.expect_end(self)

    def tick(self, now: float) -> None:
        """A comment now and then keeps proxies from cutting the stream; a browser can't answer a ping."""
        if now - self._beat_at >= self.hub.config.stream_heartbeat and not self.is_closing:
            self._beat_at = now
            self._waiting().put(b":\n\n")

    def _encoded(self, broadcast: Broadcast, stream_id: bytes | None) -> bytes:
        data = b"data: " + broadcast.text_with_id(stream_id) + b"\n\n"
        if stream_id is None:
            return data
        self._positions[broadcast.channel.name] = stream_id
        return self._id_line() + data

    def _id_line(self) -> bytes:
        """
        The positions in all channels, for the browser keeps only the last ``id`` of a stream.

        No channel name has a ``|``.
        """
        return b"id: " + b"|".join(b"%b|%b" % (name.encode(), at) for name, at in self._positions.items()) + b"\n"

    def _said_goodbye(self) -> None:
        self.hub.lose(self)

    def _go_on_reading(self) -> None:
        while self._requests and self._actions is None:
            self.perform(self.protocol.receive(self._requests.popleft(), self.hub.loop.now))

    def _read(self) -> None:
        if not self._receive():
            self.hub.lose(self)


def read_positions(last_event_id: str) -> dict[str, str]:
    """Stream ids by channel, from what a browser sends as ``Last-Event-ID``; none from what is no such text."""
    parts = last_event_id.split("|")
    return dict(zip(parts[::2], parts[1::2], strict=False))
