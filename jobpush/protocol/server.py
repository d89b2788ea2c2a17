"""
The state of one connection: turns a client's messages into actions.

A state machine without I/O, threads or clock. Its shell (the gateway's hub) passes in text and the time, and does the
returned actions in order. While a :class:`Subscribe` is under way, the shell passes further messages of that
connection to :meth:`ServerProtocol.receive_early` only; it answers with :meth:`ServerProtocol.subscribed` or
:meth:`ServerProtocol.refused`. Nothing that a client sends raises an exception here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..channels import SERVER_TO_USER, parse_channel
from ..config import Config
from ..events import encode
from ..tokens import ConnectionToken, TokenError, TokenInvalid, TokenOtherUser
from . import client_events, messages
from .actions import Action, CheckToken, Close, Send, SignIn, SignOut, Subscribe, Unsubscribe, UserData
from .admission import authorize, is_stream_id, read_channel
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
from .sign_in import authenticate
from .subscriptions import Subscriptions

#: Seconds over which client events are counted, and all messages.
_RATE_WINDOW = 1.0
_MESSAGE_WINDOW = 10.0
#: Characters of a message that cost as much as one more message.
_COST_UNIT = 1_024
#: Invalid messages in one window after which a connection is closed.
_MAX_INVALID = 25
#: Messages that may overtake others.
_UNORDERED = ("pusher:ping", "pusher:pong")
_PONG = Send(messages.PONG)
_PING = Send(messages.PING)


def error_message(error: PusherError | SubscriptionRefused) -> Send:
    """Return the message that reports an error."""
    return Send(error.frame, error.refusal)


def answer(error: PusherError | SubscriptionRefused) -> list[Action]:
    """Return the actions for an error, also one of the shell: a message, and a close if its code requires one."""
    message = error_message(error)
    if isinstance(error, SubscriptionRefused) or error.close_code is None:
        return [message]
    # From protocol 6 on the close code alone is enough; clients of soketi and Reverb, and older ones, get both.
    return [message, Close(error.close_code, error.sentence)]


@dataclass(eq=False, slots=True)
class ServerProtocol:
    """
    The server's side of one connection. Times (``now``) are seconds of any clock that never goes back.

    Args:
        config: Shared by all connections.
        socket_id: From :func:`~jobpush.protocol.handshake.new_socket_id`.
    """

    # A process has many thousands, most of them idle: empty attributes are None.
    config: Config
    socket_id: str
    #: The signed-in user of the connection.
    user: UserData | None = None
    #: The token of that sign-in, and the time at which the user's rights end; ``None`` without a token.
    _token: ConnectionToken | None = None
    _token_until: float | None = None
    #: The channels that the token authorizes, and to which the connection is subscribed.
    _claimed: tuple[str, ...] = ()
    #: Stream id of the last event of the user's channel that our own client has, until it signs in.
    _since: str | None = None
    _subscriptions: Subscriptions = field(default_factory=Subscriptions)
    _active_at: float = 0.0
    _received_at: float = 0.0
    _pinged_at: float | None = None
    _signin_until: float | None = None
    _window_began: float = 0.0
    _client_event_count: int = 0
    _message_window_began: float = 0.0
    _message_count: int = 0
    _is_closed: bool = False

    @property
    def channels(self) -> frozenset[str]:
        """The channels to which the connection is subscribed."""
        return frozenset(self._subscriptions.confirmed)

    def member_id(self, channel: str) -> str | None:
        """Return the user id of the connection's member in a presence channel to which it is subscribed."""
        return self._subscriptions.member_id(channel)

    # -- from the shell ------------------------------------------------------------------------------

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
        Begin the connection; call it once, first.

        Args:
            now: The time.
            user: The user of the page's session; signed in at once.
            announce_user: Whether the client is jobpush's own: announce the user to it, and subscribe it to the user's
                channel.
            since: Stream id of the last event that it has of that channel. Other text gets an error and is ignored.
            time: Unix seconds, for jobpush's own client.
        """
        self._active_at = self._received_at = now
        timeout = self.config.signin_timeout
        self._signin_until = now + timeout if timeout else None
        established = messages.connection_established(self.socket_id, self.config.activity_timeout, time)
        actions: list[Action] = [Send(established)]
        if user is not None:
            actions.append(self._signed_in_as(user))
            if announce_user:
                actions.append(Send(messages.signin_success(encode({"id": user.id}))))
        if announce_user:
            if since and not is_stream_id(since):
                actions.append(error_message(InvalidMessage("since must be the id of an event")))
                since = None
            self._since = since or None
            actions += self._join_own_channel()
        return actions

    def receive(self, text: str, now: float) -> list[Action]:
        """Process one complete text message."""
        if self._is_closed:
            return []
        self.touch(now)
        self._message_count += len(text) // _COST_UNIT
        try:
            self._ensure_within_message_rate()
            return self._handle(text, now)
        except InvalidMessage as error:
            self._message_count += self._invalid_cost
            return self._answer(error)
        except (PusherError, SubscriptionRefused) as error:
            return self._answer(error)

    def receive_early(self, text: str, now: float) -> list[Action] | None:
        """Process a ping or pong during a pending subscription; ``None`` if the message has to wait for its end."""
        try:
            event = read_message(text).event
        except InvalidMessage:
            return None
        return self.receive(text, now) if event in _UNORDERED else None

    def token_accepted(self, token: ConnectionToken, now: float, expires_in: float) -> list[Action]:
        """
        Sign in with a checked token, or refresh the rights of the present user.

        Args:
            token: Its claims.
            now: The time.
            expires_in: Seconds until the rights end.
        """
        if self._is_closed:
            return []
        if self.user is not None and self.user.id != token.user_id:
            return self.token_refused(TokenOtherUser("the token is for another user than the connection has"))
        self._token, self._token_until = token, now + expires_in
        return [
            self._signed_in_as(UserData(token.user_id, token.user_info, token.watchlist)),
            Send(messages.token_accepted(token.user_id, token.expires_at)),
            *self._leave_unclaimed(token),
            *self._join_own_channel(),
        ]

    def token_refused(self, error: TokenError) -> list[Action]:
        """Report a refused token; the connection stays as it is."""
        if self._is_closed:
            return []
        self._message_count += self._invalid_cost
        return [Send(messages.token_refused(error.code, str(error)), "token_refused")]

    def end_rights(self, reason: str) -> list[Action]:
        """Sign out and unsubscribe from the user's and all private channels; later, if a subscription is pending."""
        if self.user is None or self._is_closed:
            return []
        if self._subscriptions.has_pending:
            self._token_until = 0.0
            return []
        user_id, self.user = self.user.id, None
        self._token = self._token_until = None
        self._claimed = ()
        kinds = map(parse_channel, self._subscriptions.confirmed)
        left = [kind.name for kind in kinds if kind.is_private or kind.user_id is not None]
        return [*map(self._leave, left), SignOut(user_id), Send(messages.signed_out(reason))]

    def receive_binary(self, now: float) -> list[Action]:
        """Answer a binary message with an error and a close (1003)."""
        self.touch(now)
        return self._answer(BinaryMessage())

    def receive_oversized(self, now: float) -> list[Action]:
        """Answer a message beyond ``Config.max_message`` bytes with an error and a close (1009)."""
        self.touch(now)
        return self._answer(MessageTooBig(f"Message too big: {self.config.max_message} bytes are allowed"))

    def touch(self, now: float) -> None:
        """Record that the client is alive, for example after a control frame."""
        self._received_at = now
        self._pinged_at = None
        if now - self._message_window_began >= _MESSAGE_WINDOW:
            self._message_window_began, self._message_count = now, 0
        self._message_count += 1

    def tick(self, now: float, *, is_subscribing: bool = False) -> list[Action]:
        """
        Return the actions that are due: a ping, or a close. Call it about once a second.

        Args:
            now: The time.
            is_subscribing: Whether a subscription is pending: the client waits for the server, so it gets no ping.
        """
        try:
            self._ensure_within_message_rate()  # for control frames, which cause no message
        except TooManyMessages as error:
            return self._answer(error)
        if self._token_until is not None and now >= self._token_until and not self._subscriptions.has_pending:
            return self.end_rights("token_expired" if self._token_until else "signed_out")
        if is_subscribing:
            return []
        if self._signin_until is not None and now >= self._signin_until:
            return self._answer(SigninTimeout("Connection not authorized within timeout"))
        if self._pinged_at is not None:
            return [] if now - self._pinged_at < self.config.pong_timeout else self._answer(PongMissing())
        silence = now - self._received_at
        if self._is_closed or silence < self.config.ping_interval and silence < self.config.activity_timeout:
            return []
        if self._is_inactive(now):
            return self._answer(Inactive())
        self._pinged_at = now
        return [_PING]

    def subscribed(
        self,
        channel: str,
        *,
        position: str,
        members: Mapping[str, str] | None = None,
        has_cached: bool = False,
    ) -> list[Action]:
        """
        Confirm a subscription. The shell sends missed events, snapshots or the cached event after these actions.

        Args:
            channel: Name of the channel, as in :class:`Subscribe`.
            position: Stream id up to which the client then has all events.
            members: ``user_info`` (JSON text) by user id, this connection's member included; for presence channels.
            has_cached: Whether a cached event follows; for cache channels.
        """
        if self._is_closed or not self._subscriptions.is_pending(channel):
            return []  # unsubscribed or closed meanwhile
        self._subscriptions.confirm(channel)
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
        """Refuse a subscription, for example because the task is another user's."""
        if self._is_closed or not self._subscriptions.is_pending(channel):
            return []
        self._subscriptions.remove(channel)
        return self._answer(error(channel, message))

    # -- from the client -----------------------------------------------------------------------------

    def _handle(self, text: str, now: float) -> list[Action]:
        if len(text) > self.config.max_message:
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
            case "jobpush:signin":
                return self._sign_in_by_token(message.data)
        if message.event.startswith(client_events.PREFIX):
            return self._client_event(message, now)
        raise InvalidMessage(f"Unknown event {message.event[:80]!r}")

    def _subscribe(self, data: object) -> list[Action]:
        request = read_object(data)
        channel = read_channel(request)
        if channel in self._subscriptions:
            # The same message as Pusher's, and no other effect (Pusher's code is null, which Pysher can't read).
            raise InvalidMessage(f"Existing subscription to channel {channel}")
        subscribe = authorize(self.config, self.socket_id, self.user, self._token, channel, request)
        limit = self.config.max_channels
        if len(self._subscriptions) >= limit:
            raise SubscriptionLimitReached(channel, f"A connection may have {limit} channels")
        if subscribe.is_claimed:
            self._claimed += (channel,)
        return [self._begin_subscription(subscribe)]

    def _unsubscribe(self, data: object) -> list[Action]:
        channel = read_channel(read_object(data))
        if channel not in self._subscriptions:
            return []
        return [self._leave(channel)]

    def _sign_in(self, data: object) -> list[Action]:
        request = read_object(data)
        auth, user_data = read_text(request, "auth"), read_text(request, "user_data")
        user = authenticate(self.config, self.socket_id, auth, user_data)
        if self.user is not None and self.user.id != user.id:
            raise NotAuthorized("Connection not authorized: it is signed in as another user")
        success = Send(messages.signin_success(request["user_data"]))
        limit = self.config.max_watchlist
        if len(user.watchlist) <= limit:
            return [self._signed_in_as(user), success]
        excess = WatchlistTooLong(f"Watchlist limit exceeded: {limit} users are watched")
        cut = replace(user, watchlist=user.watchlist[:limit])
        return [self._signed_in_as(cut), success, error_message(excess)]

    def _sign_in_by_token(self, data: object) -> list[Action]:
        try:
            token = read_object(data).get("token")
        except InvalidMessage:
            token = None
        if not isinstance(token, str):
            return self.token_refused(TokenInvalid("data.token must be text"))
        return [CheckToken(token)]

    def _client_event(self, message: ClientMessage, now: float) -> list[Action]:
        channel = message.channel
        if not isinstance(channel, str):
            raise InvalidMessage('A client event must have a "channel" that is text')
        client_events.ensure_allowed(self._subscriptions.confirmed, channel)
        self._ensure_within_rate(channel, now)
        return [
            client_events.read_client_event(
                channel,
                message.event,
                message.data,
                user_id=self.member_id(channel),
                max_data=self.config.max_client_data,
            )
        ]

    # -- shared --------------------------------------------------------------------------------------

    def _is_inactive(self, now: float) -> bool:
        """
        Return whether the connection is unused for a long time. Source: Pusher Channels protocol, 4202.

        A connection that only receives is not closed: a stock client would miss events while it reconnects.
        """
        limit = self.config.idle_timeout
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

    def _begin_subscription(self, subscribe: Subscribe) -> Action:
        self._subscriptions.begin(subscribe.channel, subscribe.member.user_id if subscribe.member else None)
        return subscribe

    @property
    def _message_limit(self) -> float:
        """Return the highest cost of one window's messages; some clients start with ``max_channels`` subscriptions."""
        return self.config.message_rate * _MESSAGE_WINDOW + self.config.max_channels

    @property
    def _invalid_cost(self) -> int:
        return math.ceil(self._message_limit / _MAX_INVALID)

    def _join_own_channel(self) -> list[Action]:
        """Subscribe to the channel of the connection's user, unless it already is."""
        channel = None if self.user is None else SERVER_TO_USER + self.user.id
        if channel is None or channel in self._subscriptions:
            return []
        since, self._since = self._since, None
        return [self._begin_subscription(Subscribe(channel, since))]

    def _leave(self, channel: str) -> Action:
        self._claimed = tuple(name for name in self._claimed if name != channel)
        return Unsubscribe(channel, self._subscriptions.remove(channel))

    def _leave_unclaimed(self, token: ConnectionToken) -> list[Action]:
        """Unsubscribe from channels that an earlier token authorized and this one does not."""
        actions: list[Action] = []
        for channel in self._claimed:
            if not token.covers(channel):
                error = SubscriptionUnauthorized(channel, "The connection's token no longer covers this channel")
                actions += [self._leave(channel), error_message(error)]
        return actions

    def _ensure_within_message_rate(self) -> None:
        rate = self.config.message_rate
        if self._message_count > rate > 0 and self._message_count > self._message_limit:  # the first is seldom true
            raise TooManyMessages

    def _ensure_within_rate(self, channel: str, now: float) -> None:
        if now - self._window_began >= _RATE_WINDOW:
            self._window_began, self._client_event_count = now, 0
        self._client_event_count += 1
        if self._client_event_count > self.config.client_event_rate:
            raise ClientEventRejected(channel=channel)
