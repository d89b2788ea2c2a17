"""
Pusher's error codes: one class for each that this server sends.

The band of a code decides the client's reaction. Source: Pusher Channels protocol, "Error codes"; the reactions as in
pusher-js ``protocol.ts`` and ``connection_manager.ts``:

- 4000 to 4099: do not connect again unchanged (pusher-js: ``disconnected`` for good)
- 4100 to 4199: reconnect after a second
- 4200 to 4299: reconnect at once, all in the same instant: spread these closes
- 4300 to 4399: a ``pusher:error``; the connection stays. Never a close code: pusher-js would not reconnect

Three documented codes are not used: 4003 (application disabled), since there is one application; 4004 (over the quota
of connections), since clients would not reconnect when there is room again; 4005 (path not found), since other paths
belong to the site.
"""

from __future__ import annotations

import re
from typing import ClassVar

from ..errors import ProtocolError
from . import messages

#: WebSocket close codes that the core uses. Source: RFC 6455, 7.4.1.
UNACCEPTABLE_DATA = 1003
MESSAGE_TOO_BIG = 1009


def _words(name: str) -> str:
    return re.sub(r"(?<=.)([A-Z])", r"_\1", name).lower()


class PusherError(ProtocolError):
    """
    An error with one of Pusher's codes: sent as ``pusher:error``, followed by a close in most bands.

    Args:
        message: The text for the client; the class's own sentence if empty.
        channel: The channel that caused it.
    """

    number: ClassVar[int]
    #: Close code; ``None`` if the connection stays open.
    close_code: ClassVar[int | None]
    sentence: ClassVar[str]
    #: Its metric label.
    refusal: ClassVar[str]

    def __init__(self, message: str = "", *, channel: str | None = None) -> None:
        self.message = message or self.sentence
        self.channel = channel
        super().__init__(f"{self.number}: {self.message}")

    def __init_subclass__(cls) -> None:
        cls.refusal = _words(cls.__name__)
        if "close_code" not in cls.__dict__:
            cls.close_code = cls.number if cls.number < 4300 else None

    @property
    def frame(self) -> bytes:
        """The message to the client."""
        return messages.error(self.number, self.message, self.channel)


# -- 4000 to 4099: do not reconnect ---------------------------------------------------------------------------


class TlsRequired(PusherError):
    """The client connected without TLS. Unlike its band, pusher-js reconnects at once, with ``wss``."""

    number = 4000
    sentence = "Only connections with TLS are accepted: come back with wss://"


class UnknownApp(PusherError):
    """There is no application with this key."""

    number = 4001
    sentence = "Application does not exist"


class InvalidVersion(PusherError):
    """The protocol version is not a number."""

    number = 4006
    sentence = "Invalid version string format"


class UnsupportedVersion(PusherError):
    """The server does not support this version of the protocol."""

    number = 4007
    sentence = "Unsupported protocol version"


class MissingVersion(PusherError):
    """The client sent no version of the protocol."""

    number = 4008
    sentence = "No protocol version supplied"


class NotAuthorized(PusherError):
    """The connection is refused: its origin, its sign-in, or no authorised channel in time."""

    number = 4009
    sentence = "Connection not authorized"


class SigninTimeout(NotAuthorized):
    """A connection has neither signed in nor joined an authorised channel in time."""


# -- 4100 to 4199: reconnect later ----------------------------------------------------------------------


class OverCapacity(PusherError):
    """The server is full or shuts down."""

    number = 4100
    sentence = "Over capacity"


class TooManyConnections(OverCapacity):
    """The process has reached its limit of connections."""


class TooManyConnectionsOfAddress(OverCapacity):
    """An address has reached its limit of connections to this process."""


class TooManyConnectionsOfUser(OverCapacity):
    """A user has reached the limit of connections to this process."""


class TooManyHandshakes(OverCapacity):
    """An address connects too often."""


class TooManyMessages(OverCapacity):
    """A connection sends too many messages."""

    sentence = "Over capacity: too many messages"


# -- 4200 to 4299: reconnect now -----------------------------------------------------------------------------


class Reconnect(PusherError):
    """The client must reconnect; it made no error."""

    number = 4200
    sentence = "Generic reconnect immediately"


class PongMissing(PusherError):
    """The client did not answer a ping."""

    number = 4201
    sentence = "Pong reply not received: ping was sent to the client, but no reply was received"


class Inactive(PusherError):
    """The client has neither subscribed nor sent anything but pings for a long time."""

    number = 4202
    sentence = "Closed after inactivity"


# -- 4300 to 4399: the connection stays ----------------------------------------------------------------


class InvalidMessage(PusherError):
    """
    A message is malformed.

    4300, unlike Reverb's 4200 and 4009: Pysher disconnects or reconnects after any ``pusher:error`` below 4300.
    Source: the band is Pusher's, "Any other type of error".
    """

    number = 4300
    sentence = "Invalid message"


class BinaryMessage(InvalidMessage):
    """A binary message; Pusher's protocol has text only."""

    close_code = UNACCEPTABLE_DATA
    sentence = "Only text messages are supported"


class MessageTooBig(InvalidMessage):
    """A message is longer than ``Config.max_message``; the rest of it is not read."""

    close_code = MESSAGE_TOO_BIG
    sentence = "Message too big"


class ClientEventRejected(PusherError):
    """A client event was not published: too many, too big, or not allowed there."""

    number = 4301
    sentence = "Client event rejected due to rate limit"


class WatchlistTooLong(PusherError):
    """A watchlist was cut to the limit."""

    number = 4302
    sentence = "Watchlist limit exceeded"


# -- refused subscriptions: no code, an event on the channel --------------------------------------------


class SubscriptionRefused(ProtocolError):
    """
    A subscription was refused; sent as ``pusher:subscription_error`` on its channel.

    Source: the members and types are soketi's; pusher-js passes the data to the channel.
    """

    type: ClassVar[str]
    status: ClassVar[int]
    #: Its metric label.
    refusal: ClassVar[str]

    def __init_subclass__(cls) -> None:
        cls.refusal = _words(cls.__name__)

    def __init__(self, channel: str, message: str) -> None:
        self.channel = channel
        self.message = message
        super().__init__(f"{channel}: {message}")

    @property
    def frame(self) -> bytes:
        """The message to the client."""
        return messages.subscription_error(self.channel, self.type, self.message, self.status)


class SubscriptionUnauthorized(SubscriptionRefused):
    """The signature is missing or wrong, or the channel is another user's."""

    type = "AuthError"
    status = 401


class InvalidSubscription(SubscriptionRefused):
    """The name of the channel, its channel data or its ``since`` is invalid."""

    type = "InvalidRequest"
    status = 400


class SubscriptionLimitReached(SubscriptionRefused):
    """The connection has reached its limit of channels, or the presence channel its limit of members."""

    type = "LimitReached"
    status = 429
