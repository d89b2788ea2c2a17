"""A browser's connection: bytes in, bytes out, and the protocol between them."""

from __future__ import annotations

import logging
import os
import select
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from ..config import Config
from ..protocol.actions import (
    Action,
    CheckToken,
    ClientEvent,
    Close,
    Send,
    SignIn,
    SignOut,
    Subscribe,
    Unsubscribe,
    UserData,
)
from ..protocol.codes import SubscriptionRefused, SubscriptionUnauthorized
from ..protocol.server import ServerProtocol
from .broadcast import Broadcast
from .channel import Channel
from .counters import Refusals, Traffic
from .loop import Loop
from .outbox import Outbox
from .presence.occupancy import Occupancy
from .presence.watched import Watched

logger = logging.getLogger("jobpush.gateway")

#: Bytes read from one client at once.
_READ_SIZE = 16_384
#: Close of a client that does not read; stock clients come back after a second.
SLOW_READER = (4100, "slow reader")
#: WebSocket close code for an internal error. Source: RFC 6455, 7.4.1.
INTERNAL_ERROR = 1011

#: Events that every connection is watched for. POLLRDHUP is Linux only.
READING = select.POLLIN | getattr(select, "POLLRDHUP", 0)


class ConnectionHost(Protocol):
    """The part of the hub that a connection uses."""

    config: Config
    loop: Loop
    refusals: Refusals
    traffic: Traffic

    def flush_later(self, connection: Connection) -> None:
        """Flush a connection at the end of the wake-up."""

    def lose(self, connection: Connection) -> None:
        """Close the socket of a connection at the end of the wake-up. Twice does no harm."""

    def close_later(self, connection: Connection, code: int, reason: str) -> None:
        """Close a connection at the end of the wake-up, since others may be in the middle of an iteration."""

    def expect_end(self, connection: Connection) -> None:
        """Close the socket of a closing connection soon. Call it again whenever the client has read something."""

    def sign_in(self, connection: Connection, user: UserData) -> bool:
        """Record a connection's user. Return ``False`` if it exceeds the limit, and is closed."""

    def sign_out(self, connection: Connection, user_id: str) -> None:
        """Forget a connection's user."""

    def check_token(self, connection: Connection, text: str) -> None:
        """Check a connection token; :meth:`Connection.resume` is called later with the actions that follow."""

    def publish(self, connection: Connection, event: ClientEvent) -> None:
        """Publish a client event."""

    def subscribe(self, connection: Connection, request: Subscribe) -> None:
        """Subscribe a connection; :meth:`Connection.resume` or :meth:`Connection.refused` is called later."""

    def unsubscribe(self, connection: Connection, channel: str) -> None:
        """Unsubscribe a connection from one channel, at its own request."""

    def leave(self, connection: Connection) -> None:
        """Remove a connection from all channels and watchlists."""


@dataclass(eq=False, slots=True)
class Connection(ABC):
    """
    Base of WebSocket and event-stream connections. Used only in the hub's thread.

    Args:
        host: The hub.
        fd: Its socket, non-blocking; closed by the hub.
        protocol: Its protocol, not opened yet.
        on_gone: Called when the hub has closed the socket; where a request thread holds the connection.
    """

    # A process has many thousands, most of them idle: empty attributes are None.
    host: ConnectionHost
    fd: int
    protocol: ServerProtocol
    on_gone: Callable[[], None] | None = None
    #: The channels that it is subscribed to, or subscribes to; see :class:`Subscribing`.
    channels: tuple[Channel, ...] = ()
    #: The counts that include it; see :class:`OccupancyReporter`.
    counts: tuple[Occupancy, ...] = ()
    #: The users on its watchlist; see :class:`Watchlists`.
    watched: tuple[Watched, ...] = ()
    #: Whether it sends what is queued, and then ends.
    is_closing: bool = False
    #: Whether :meth:`ConnectionHost.sign_in` accepted its user.
    is_signed_in: bool = False
    _outbox: Outbox | None = None
    #: Actions of the protocol behind a subscription that is under way; ``None``: none is under way.
    _actions: deque[Action] | None = None
    #: Whether the first of these actions waits until everything queued is sent.
    _waits_for_outbox: bool = False
    _events: int = READING
    #: Whether several connections share the bytes of a history.
    shares_frames: ClassVar[bool] = True

    @property
    def socket_id(self) -> str:
        """Pusher socket id."""
        return self.protocol.socket_id

    # -- out -----------------------------------------------------------------------------------------

    @abstractmethod
    def send(self, text: bytes) -> None:
        """Queue a message of the protocol."""

    def send_bounded(self, text: bytes) -> None:
        """Queue a message that other connections caused; close a connection that has too many of them queued."""
        self.send(text)
        self._ensure_within_bound(self._waiting())

    @abstractmethod
    def _encoded(self, broadcast: Broadcast, stream_id: bytes | None) -> bytes:
        """Return an event as the client gets it, with the id from which it may resume behind it."""

    def send_event(self, broadcast: Broadcast, stream_id: bytes | None) -> None:
        """Queue an event of the history, with the id from which the client may resume behind it."""
        outbox = self._waiting()
        outbox.discard(broadcast.key)  # a live event must not replace it in front of the history
        outbox.put_history(self._encoded(broadcast, stream_id), broadcast.channel)

    def queue(self, broadcasts: Iterable[Broadcast]) -> None:
        """Queue live events; a newer snapshot of a task replaces a queued one."""
        outbox = self._waiting()
        for broadcast in broadcasts:
            self._put(outbox, broadcast)
        self._ensure_within_bound(outbox)

    def _put(self, outbox: Outbox, broadcast: Broadcast) -> None:
        key, shares = broadcast.key, self.shares_frames
        if broadcast.pinned:
            outbox.discard(key)
            frame = broadcast.frame if shares else self._encoded(broadcast, broadcast.stream_id)
            outbox.put(frame, broadcast.channel)
        elif key in outbox:
            self.host.traffic.conflated += 1
            outbox.replace(key, broadcast.frame_without_id if shares else self._encoded(broadcast, None))
        else:
            outbox.replace(key, broadcast.frame if shares else self._encoded(broadcast, broadcast.stream_id))

    @abstractmethod
    def note_position(self, channel: str, stream_id: bytes) -> None:
        """Note that the client has all events of a channel up to this id."""

    @abstractmethod
    def deliver(self, broadcasts: list[Broadcast], frames: bytes) -> None:
        """Send live events, at once if nothing is queued; ``frames`` are the same events as WebSocket frames."""

    @abstractmethod
    def close(self, code: int, reason: str) -> None:
        """Send what is queued and a close, and ignore further messages."""

    def _waiting(self) -> Outbox:
        """Return the outbox; a new one is flushed at the end of the wake-up."""
        outbox = self._outbox
        if outbox is None:
            outbox = self._outbox = Outbox()
            self.host.flush_later(self)
        return outbox

    def _drop_outbox(self) -> None:
        """Forget an outbox that is empty, or of a connection that is gone."""
        if self._outbox is not None:
            self.host.traffic.replaying -= self._outbox.replaying
            self._outbox = None

    def _is_beyond_bound(self, outbox: Outbox) -> bool:
        return outbox.size > self.host.config.outbox_size + outbox.allowance

    def _ensure_within_bound(self, outbox: Outbox) -> None:
        if self._is_beyond_bound(outbox) and not self.is_closing:
            self.host.close_later(self, *SLOW_READER)

    def give_up(self, code: int, reason: str) -> None:
        """Close and drop what is queued, except the rest of a frame that was sent in part."""
        if (code, reason) == SLOW_READER and not self.is_closing:
            self.host.refusals.count("slow_reader")
        if self._outbox is not None and not self.is_closing:
            self.host.traffic.dropped += self._outbox.drop_frames()
        self.close(code, reason)

    def flush(self) -> None:
        """Send what is queued as far as the socket takes it; the rest follows when the socket is writable."""
        outbox = self._outbox
        if outbox is None:
            return
        size = outbox.size
        try:
            is_empty = outbox.send(self.fd)
        except OSError:
            self.host.lose(self)
            return
        if self.is_closing and outbox.size < size:
            self.host.expect_end(self)
        if is_empty:
            self._drop_outbox()
            self._watch(self._events & ~select.POLLOUT)
            if self.is_closing:
                self._finished()
            if self._waits_for_outbox:
                self._waits_for_outbox = False
                self.resume()
            else:
                self._resume_reading()
        else:
            self.count_replaying()
            self._watch(self._events | select.POLLOUT)

    def count_replaying(self) -> None:
        """Count the bytes of a history that wait in this process."""
        if self._outbox is not None:
            self.host.traffic.replaying += self._outbox.count_replaying()

    @abstractmethod
    def _finished(self) -> None:
        """Finish a closing connection after everything was sent."""

    def _watch(self, events: int) -> None:
        if events != self._events:
            self._events = events
            self.host.loop.modify(self.fd, events)

    # -- in ------------------------------------------------------------------------------------------

    def on_ready(self, events: int) -> None:
        """Read and write as far as the socket allows."""
        if events & select.POLLIN and self._events & select.POLLIN:
            self._read()
        elif events & ~(select.POLLOUT | select.POLLIN):
            self.host.lose(self)
        if events & select.POLLOUT:
            self.flush()

    @property
    def _must_wait(self) -> bool:
        """Whether reading pauses, because the client does not read its replies."""
        return self._outbox is not None and self._is_beyond_bound(self._outbox)

    def on_failure(self, exc: Exception) -> None:
        """Close this connection, and no other, after an internal error."""
        logger.error("connection %s is closed after an internal error", self.socket_id, exc_info=exc)
        self.host.close_later(self, INTERNAL_ERROR, "internal error")

    @abstractmethod
    def _read(self) -> None:
        """Process the received bytes."""

    def _receive(self) -> bytes:
        """Return the received bytes; empty if the client is gone."""
        try:
            return os.read(self.fd, _READ_SIZE)
        except OSError:
            return b""

    # -- the protocol --------------------------------------------------------------------------------

    def begin(self, head: bytes, actions: Iterable[Action], requests: Sequence[str] = ()) -> None:
        """Answer the HTTP request, do the first actions, then process ``requests`` as messages of the client."""
        self._waiting().put(head)
        self.perform(actions)

    def tick(self, now: float) -> None:
        """Do whatever is due; called about once a second."""
        if not self.is_closing:
            is_subscribing = self._actions is not None and not self._waits_for_outbox
            self.perform(self.protocol.tick(now, is_subscribing=is_subscribing))

    def perform(self, actions: Iterable[Action]) -> None:
        """Do the actions of the protocol; those behind a subscription or a token's check wait for :meth:`resume`."""
        left = iter(actions)
        for action in left:
            match action:
                case Send(text, refusal):
                    if refusal is not None:
                        self.host.refusals.count(refusal)
                    self.send(text)
                case Subscribe():
                    if self._outbox is not None and self._outbox.allowance:
                        self._waits_for_outbox = True  # a connection has one replay at a time
                        self._actions = deque((action, *left))
                        return
                    self._actions = deque(left)
                    self.host.subscribe(self, action)
                case Unsubscribe(channel):
                    self.host.unsubscribe(self, channel)
                    if self._outbox is not None:
                        self.host.traffic.dropped += self._outbox.drop_channel(channel.encode())
                case ClientEvent():
                    self.host.publish(self, action)
                case Close(code, reason):
                    self.close(code, reason)
                case CheckToken(token):
                    self._actions = deque(left)
                    self.host.check_token(self, token)
                case SignOut(user_id):
                    self.host.sign_out(self, user_id)
                case SignIn(user):
                    if not self.host.sign_in(self, user):
                        return

    def resume(self, first: Iterable[Action] = ()) -> None:
        """Do the actions that follow a subscription or the check of a token, then those that waited for its end."""
        waiting, self._actions = self._actions or (), None
        if not self.is_closing:
            self.perform((*first, *waiting))
        if self._actions is None:
            self._resume_reading()

    def refused(
        self, channel: str, message: str, *, error: type[SubscriptionRefused] = SubscriptionUnauthorized
    ) -> None:
        """Refuse the subscription that is under way."""
        self.perform(self.protocol.refused(channel, message, error=error))
        self.resume()

    def _resume_reading(self) -> None:
        """Process what arrived while the client had to wait."""
        self._watch(self._events | select.POLLIN)

    def _leave(self) -> None:
        self.is_closing = True
        self._actions = None
        self.host.leave(self)

    def gone(self) -> None:
        """Release everything after the socket was closed."""
        self._leave()
        self._drop_outbox()
        if self.on_gone is not None:
            self.on_gone()
