"""
The state of one connection: what a client's messages mean, and what is to be done.

A state machine without I/O, threads or clock: its shell (the gateway's hub) hands in text and the time, and does
the actions that come back, in order. While a :class:`Subscribe` is under way the shell hands in further messages of
that connection to :meth:`ServerProtocol.receive_early` alone; it answers by :meth:`ServerProtocol.joined` or
:meth:`ServerProtocol.refused`. Nothing here raises on account of what a client sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..channels import SERVER_TO_USER, parse_channel
from ..events import encode
from . import client_events, messages
from .actions import Action, Close, Send, SignIn, Subscribe, Unsubscribe, UserData
from .codes import (
    BinaryMessage,
    ClientEventRejected,
    Inactive,
    InvalidMessage,
    MessageTooBig,
    NotAuthorized,
    PongMissing,
    PusherError,
    SigninTimeout,
    SubscriptionLimitReached,
    SubscriptionRefused,
    SubscriptionUnauthorized,
    TooManyMessages,
    WatchlistTooLong,
)
from .reading import ClientMessage, read_message, read_object, read_text
from .settings import ProtocolSettings
from .subscribing import authorize, is_stream_id, read_channel
from .subscriptions import Subscriptions
from .users import authenticate

#: Seconds over which client events are counted, and all messages.
_RATE_WINDOW = 1.0
_MESSAGE_WINDOW = 10.0
#: Messages that may overtake others.
_OF_NO_ORDER = ("pusher:ping", "pusher:pong")
_PONG = Send(messages.PONG)
_PING = Send(messages.PING)


def tell(error: PusherError | SubscriptionRefused) -> Send:
    """The message that tells a client of an error."""
    return Send(error.frame, error.refusal)


def answer(error: PusherError | SubscriptionRefused) -> list[Action]:
    """What tells a client of an error: a message, and by its code a close; for the shell's own errors too."""
    told = tell(error)
    if isinstance(error, SubscriptionRefused) or error.close_code is None:
        return [told]
    # From protocol 6 on the close code alone would do; older clients, soketi's and Reverb's get both.
    return [told, Close(error.close_code, error.sentence)]


class ServerProtocol:
    """
    The server's side of one connection. Times (``now``) are seconds of any clock that never goes back.

    Args:
        settings: Shared by all connections.
        socket_id: From :func:`~jobpush.protocol.handshake.new_socket_id`.
    """

    # There is one for each of many thousands of idle connections: no __dict__, and what may stay empty is None.
    __slots__ = (
        "_active_at",
        "_client_event_count",
        "_heard_at",
        "_is_closed",
        "_message_count",
        "_message_window_began",
        "_pinged_at",
        "_settings",
        "_signin_until",
        "_subscriptions",
        "_window_began",
        "socket_id",
        "user",
    )

    def __init__(self, settings: ProtocolSettings, socket_id: str) -> None:
        self._settings = settings
        self.socket_id = socket_id
        #: Who the connection is signed in as.
        self.user: UserData | None = None
        self._subscriptions = Subscriptions()
        self._active_at = 0.0
        self._heard_at = 0.0
        self._pinged_at: float | None = None
        self._signin_until: float | None = None
        self._window_began = 0.0
        self._client_event_count = 0
        self._message_window_began = 0.0
        self._message_count = 0
        self._is_closed = False

    @property
    def channels(self) -> frozenset[str]:
        """The channels that the connection has joined."""
        return frozenset(self._subscriptions.joined)

    def member_id(self, channel: str) -> str | None:
        """The user id under which the connection is a member of a presence channel that it has joined."""
        return self._subscriptions.member_id(channel)

    # -- what the shell tells ------------------------------------------------------------------------

    def open(
        self,
        now: float,
        *,
        user: UserData | None = None,
        announce_user: bool = False,
        since: str | None = None,
        time: float | None = None,
    ) -> list[Action]:
        """
        Begin: call it once, first.

        Args:
            now: The time.
            user: Whom the page's session names; signed in at once.
            announce_user: Our own client is there: tell it so, and join its user's channel.
            since: Stream id of the last event that it has of that channel; what is no stream id is an error that
                the client is told of, and nothing else.
            time: Unix seconds, for our own client.
        """
        self._active_at = self._heard_at = now
        timeout = self._settings.signin_timeout
        self._signin_until = now + timeout if timeout else None
        established = messages.connection_established(self.socket_id, self._settings.activity_timeout, time)
        actions: list[Action] = [Send(established)]
        if user is None:
            return actions
        actions.append(self._signed_in_as(user))
        if announce_user:
            actions.append(Send(messages.signin_success(encode({"id": user.id}))))
            if since and not is_stream_id(since):
                actions.append(tell(InvalidMessage("since must be the id of an event")))
                since = None
            actions.append(self._begin_to_join(Subscribe(SERVER_TO_USER + user.id, since or None)))
        return actions

    def receive(self, text: str, now: float) -> list[Action]:
        """Take one complete text message."""
        if self._is_closed:
            return []
        self.touch(now)
        try:
            self._ensure_within_message_rate()
            return self._handle(text, now)
        except (PusherError, SubscriptionRefused) as error:
            return self._answer(error)

    def receive_early(self, text: str, now: float) -> list[Action] | None:
        """Take a message while a join is under way; ``None`` if it is no ping or pong, and has to wait for that."""
        try:
            event = read_message(text).event
        except InvalidMessage:
            return None
        return self.receive(text, now) if event in _OF_NO_ORDER else None

    def receive_binary(self, now: float) -> list[Action]:
        """Take a binary message, whatever is in it: an error and a close (1003)."""
        self.touch(now)
        return self._answer(BinaryMessage())

    def receive_oversized(self, now: float) -> list[Action]:
        """Take note of a message beyond ``settings.max_message`` bytes, not read to its end: error and close (1009)."""
        self.touch(now)
        return self._answer(MessageTooBig(f"Message too big: {self._settings.max_message} bytes are allowed"))

    def touch(self, now: float) -> None:
        """Note that something came in, a control frame for instance: the client is alive."""
        self._heard_at = now
        self._pinged_at = None
        if now - self._message_window_began >= _MESSAGE_WINDOW:
            self._message_window_began, self._message_count = now, 0
        self._message_count += 1

    def tick(self, now: float, *, is_joining: bool = False) -> list[Action]:
        """
        What time asks for: a ping, or a close. Call about once a second.

        Args:
            now: The time.
            is_joining: A join is under way: it is the client that waits, and nothing is asked of it.
        """
        try:
            self._ensure_within_message_rate()  # of what no message follows: control frames
        except TooManyMessages as error:
            return self._answer(error)
        if is_joining:
            return []
        if self._signin_until is not None and now >= self._signin_until:
            return self._answer(SigninTimeout("Connection not authorized within timeout"))
        if self._pinged_at is not None:
            return [] if now - self._pinged_at < self._settings.pong_timeout else self._answer(PongMissing())
        if self._is_closed or now - self._heard_at < self._settings.activity_timeout:
            return []
        if self._is_inactive(now):
            return self._answer(Inactive())
        self._pinged_at = now
        return [_PING]

    def joined(
        self,
        channel: str,
        *,
        position: str,
        members: Mapping[str, str] | None = None,
        has_cached: bool = False,
    ) -> list[Action]:
        """
        The shell has joined a channel. It sends what is missed, snapshots or the cached event after these actions.

        Args:
            channel: Name of the channel, as in :class:`Subscribe`.
            position: Stream id up to which the client then has everything.
            members: ``user_info`` (JSON text) by user id, this connection's member included; of presence channels.
            has_cached: Whether a cached event follows; of cache channels.
        """
        if self._is_closed or not self._subscriptions.is_joining(channel):
            return []  # the shell was told meanwhile to leave or to close
        self._subscriptions.succeed(channel)
        kind = parse_channel(channel)
        if kind.is_private:
            self._signin_until = None
        actions: list[Action] = [Send(messages.subscription_succeeded(channel, position, members))]
        if kind.is_cache and not has_cached:
            actions.append(Send(messages.cache_miss(channel)))
        return actions

    def refused(
        self, channel: str, message: str, *, error: type[SubscriptionRefused] = SubscriptionUnauthorized
    ) -> list[Action]:
        """The shell could not join a channel, for example since the task is another user's."""
        if self._is_closed or not self._subscriptions.is_joining(channel):
            return []
        self._subscriptions.remove(channel)
        return self._answer(error(channel, message))

    # -- what the client tells -----------------------------------------------------------------------

    def _handle(self, text: str, now: float) -> list[Action]:
        if len(text) > self._settings.max_message:
            return self.receive_oversized(now)
        message = read_message(text)
        match message.event:
            case "pusher:ping":
                return self._answer(Inactive()) if self._is_inactive(now) else [_PONG]
            case "pusher:pong":
                return []
        self._active_at = now
        match message.event:
            case "pusher:subscribe":
                return self._subscribe(message.data)
            case "pusher:unsubscribe":
                return self._unsubscribe(message.data)
            case "pusher:signin":
                return self._sign_in(message.data)
        if message.event.startswith(client_events.PREFIX):
            return self._client_event(message, now)
        raise InvalidMessage(f"Unknown event {message.event[:80]!r}")

    def _subscribe(self, data: object) -> list[Action]:
        request = read_object(data)
        channel = read_channel(request)
        if channel in self._subscriptions:
            # Pusher's own words, and like there nothing else happens (its code is null, which Pysher can't read).
            raise InvalidMessage(f"Existing subscription to channel {channel}")
        join = authorize(self._settings, self.socket_id, self.user, channel, request)
        limit = self._settings.max_channels
        if len(self._subscriptions) >= limit:
            raise SubscriptionLimitReached(channel, f"A connection may have {limit} channels")
        return [self._begin_to_join(join)]

    def _unsubscribe(self, data: object) -> list[Action]:
        channel = read_channel(read_object(data))
        if channel not in self._subscriptions:
            return []
        return [Unsubscribe(channel, self._subscriptions.remove(channel))]

    def _sign_in(self, data: object) -> list[Action]:
        request = read_object(data)
        auth, user_data = read_text(request, "auth"), read_text(request, "user_data")
        user = authenticate(self._settings, self.socket_id, auth, user_data)
        if self.user is not None and self.user.id != user.id:
            raise NotAuthorized("Connection not authorized: it is signed in as another user")
        success = Send(messages.signin_success(request["user_data"]))
        limit = self._settings.max_watchlist
        if len(user.watchlist) <= limit:
            return [self._signed_in_as(user), success]
        excess = WatchlistTooLong(f"Watchlist limit exceeded: {limit} users are watched")
        return [self._signed_in_as(replace(user, watchlist=user.watchlist[:limit])), success, tell(excess)]

    def _client_event(self, message: ClientMessage, now: float) -> list[Action]:
        channel = message.channel
        if not isinstance(channel, str):
            raise InvalidMessage('A client event must have a "channel" that is text')
        client_events.ensure_allowed(self._subscriptions.joined, channel)
        self._ensure_within_rate(channel, now)
        return [
            client_events.read_client_event(
                channel,
                message.event,
                message.data,
                user_id=self.member_id(channel),
                max_data=self._settings.max_client_data,
            )
        ]

    # -- shared --------------------------------------------------------------------------------------

    def _is_inactive(self, now: float) -> bool:
        """
        Whether nobody would miss the connection. Source: Pusher Channels protocol, 4202; who only listens is not meant,
        for a stock client would miss what is said while it comes back.
        """
        limit = self._settings.idle_timeout
        is_used = self.user is not None or len(self._subscriptions) > 0
        return 0 < limit <= now - self._active_at and not is_used

    def _answer(self, error: PusherError | SubscriptionRefused) -> list[Action]:
        if self._is_closed:
            return []
        actions = answer(error)
        if isinstance(actions[-1], Close):
            self._is_closed = True
            self._signin_until = self._pinged_at = None
        return actions

    def _signed_in_as(self, user: UserData) -> Action:
        self.user = user
        self._signin_until = None
        return SignIn(user)

    def _begin_to_join(self, join: Subscribe) -> Action:
        self._subscriptions.begin(join.channel, join.member.user_id if join.member else None)
        return join

    def _ensure_within_message_rate(self) -> None:
        rate = self._settings.message_rate
        if rate and self._message_count > rate * _MESSAGE_WINDOW + self._settings.max_channels:
            raise TooManyMessages

    def _ensure_within_rate(self, channel: str, now: float) -> None:
        if now - self._window_began >= _RATE_WINDOW:
            self._window_began, self._client_event_count = now, 0
        self._client_event_count += 1
        if self._client_event_count > self._settings.client_event_rate:
            raise ClientEventRejected(channel=channel)
