"""The actions that :class:`~jobpush.protocol.server.ServerProtocol` returns; its shell does them in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from ..channels import Topic


@dataclass(frozen=True, slots=True)
class UserData:
    """
    The signed-in user of a connection.

    Args:
        id: Escaped id, see :func:`jobpush.channels.escape_user_id`.
        user_info: JSON text of an object that other members of presence channels see.
        watchlist: Escaped ids of users; the connection receives when they come online or go offline.
        alias: The id in the client's name of its channel, if that is not ``id``.
    """

    id: str
    user_info: str = "{}"
    watchlist: tuple[str, ...] = ()
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """One user of a presence channel; ``user_info`` is JSON text, ``{}`` by default."""

    user_id: str
    user_info: str = "{}"


@dataclass(frozen=True, slots=True)
class Send:
    """Send one text message, ready as UTF-8; ``refusal``: the metric label, if it is a refusal."""

    text: bytes
    refusal: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Subscribe:
    """
    Subscribe to a channel, then call :meth:`ServerProtocol.subscribed` or :meth:`ServerProtocol.refused`.

    Args:
        channel: Name of the channel; valid, and authorised but for ``owner_only``.
        since: Stream id of the last event that the client has; ``None``: it has none.
        member: The member, for presence channels only.
        owner_only: No signature was given: subscribe only if the task of ``private-task-<id>`` belongs to the user.
        is_claimed: The connection's token authorizes it, not a signature.
        topic: The topic that feeds the channel, if it cannot be derived from the name.
    """

    channel: str
    since: str | None = None
    member: Member | None = None
    owner_only: bool = False
    is_claimed: bool = False
    topic: Topic | None = None


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Unsubscribe from a channel at the client's request; ``user_id`` is its member's on presence channels."""

    channel: str
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class SignIn:
    """Record the connection's user; repeated with the same id if a client signs in twice."""

    user: UserData


@dataclass(frozen=True, slots=True)
class SignOut:
    """Forget the connection's user; its channels are unsubscribed before."""

    user_id: str


@dataclass(frozen=True, slots=True)
class CheckToken:
    """Check a connection token, then call :meth:`ServerProtocol.token_accepted` or ``token_refused``."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClientEvent:
    """
    Publish an event to all listeners of a channel except its sender.

    Args:
        channel: A private or presence channel to which the sender is subscribed.
        event: Name of the event; begins with ``client-``.
        data: A JSON string with its quotes, as on the wire; ``None`` if the event has no data.
        user_id: The sender's, on presence channels.
    """

    channel: str
    event: str
    data: str | None
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection after everything queued is sent; always the last action."""

    code: int
    reason: str


Action: TypeAlias = Send | Subscribe | Unsubscribe | SignIn | SignOut | CheckToken | ClientEvent | Close
