"""One browser's connection: bytes in, bytes out, and between them the protocol."""

from __future__ import annotations

import logging
import os
import select
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from ..protocol.actions import Action, ClientEvent, Close, Send, SignIn, Subscribe, Unsubscribe
from ..protocol.codes import SubscriptionRefused, SubscriptionUnauthorized
from ..protocol.server import ServerProtocol
from .broadcast import Broadcast
from .outbox import Outbox

if TYPE_CHECKING:
    from .hub import Hub
    from .listeners import Channel
    from .presence.occupancy_reporter import Occupancy
    from .presence.watchlists import Watched

logger = logging.getLogger("jobpush.gateway")

#: Bytes read from one client at once.
_READ_SIZE = 16_384
#: What a client that reads nothing is closed with: it may come back after a second.
SLOW_READER = (4100, "slow reader")
#: WebSocket close code for an error of ours. Source: RFC 6455, 7.4.1.
INTERNAL_ERROR = 1011

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
        "watched",
    )

    def __init__(self, hub: Hub, fd: int, protocol: ServerProtocol, on_gone: Callable[[], None] | None = None) -> None:
        self.hub = hub
        self.fd = fd
        self.protocol = protocol
        self._on_gone = on_gone
        #: The channels it hears or is about to; see :meth:`Subscribing.begin`.
        self.channels: tuple[Channel, ...] = ()
        #: What it counts for; see :class:`OccupancyReporter`.
        self.counts: tuple[Occupancy, ...] = ()
        #: The users on its watchlist; see :class:`Watchlists`.
        self.watched: tuple[Watched, ...] = ()
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

    def tell(self, text: bytes) -> None:
        """Queue a message that others have given rise to; a client that does not read gets too many of them."""
        self.send(text)
        self._ensure_within_bound(self._waiting())

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

    def _is_beyond_bound(self, outbox: Outbox) -> bool:
        return outbox.size > self.hub.config.outbox_size + outbox.allowance

    def _ensure_within_bound(self, outbox: Outbox) -> None:
        if self._is_beyond_bound(outbox) and not self.is_closing:
            self.hub.close_later(self, *SLOW_READER)

    def give_up(self, code: int, reason: str) -> None:
        """Close without sending what waits; but the frame that was begun is sent to its end."""
        if (code, reason) == SLOW_READER and not self.is_closing:
            self.hub.refusals.count("slow_reader")
        if self._outbox is not None and not self.is_closing:
            self.hub.dropped += self._outbox.drop_frames()
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
            self._go_on_reading()
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

    @property
    def _must_wait(self) -> bool:
        """Whether the client is not to be heard, since it does not read what it has asked for."""
        return self._outbox is not None and self._is_beyond_bound(self._outbox)

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

    def begin(self, head: bytes, actions: Iterable[Action], requests: Sequence[str] = ()) -> None:
        """Answer the HTTP request, do the first actions, then take ``requests`` as if the client had sent them."""
        self._waiting().put(head)
        self.perform(actions)

    def tick(self, now: float) -> None:
        """What time asks for; about once a second."""
        if not self.is_closing:
            self.perform(self.protocol.tick(now, is_joining=self._actions is not None))

    def perform(self, actions: Iterable[Action]) -> None:
        """Do what the protocol asks for; what stands behind a join waits until :meth:`go_on`."""
        left = iter(actions)
        for action in left:
            match action:
                case Send(text, refusal):
                    if refusal is not None:
                        self.hub.refusals.count(refusal)
                    self.send(text)
                case Subscribe():
                    self._actions = deque(left)
                    self.hub.joins.begin(self, action)
                case Unsubscribe(channel):
                    self.hub.joins.leave(self, channel)
                case ClientEvent():
                    self.hub.publish(self, action)
                case Close(code, reason):
                    self.close(code, reason)
                case SignIn(user):
                    if not self.hub.sign_in(self, user):
                        return

    def go_on(self) -> None:
        """A join has ended, this way or that: do what has waited for it."""
        actions, self._actions = self._actions, None
        if not self.is_closing:
            self.perform(actions or ())
        if self._actions is None:
            self._go_on_reading()

    def refused(
        self, channel: str, message: str, *, error: type[SubscriptionRefused] = SubscriptionUnauthorized
    ) -> None:
        """The join that is under way has failed."""
        self.perform(self.protocol.refused(channel, message, error=error))
        self.go_on()

    def _go_on_reading(self) -> None:
        """Read what has come while the client had to wait."""
        self._watch(self._events | select.EPOLLIN)

    def _leave_all(self) -> None:
        self.is_closing = True
        self._actions = None
        self.hub.joins.leave_all(self)
        self.hub.watchlists.forget(self)

    def gone(self) -> None:
        """The socket is closed; who holds the connection may let go."""
        self._leave_all()
        self._outbox = None
        if self._on_gone is not None:
            self._on_gone()
