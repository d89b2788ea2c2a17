"""What :class:`~jobpush.protocol.server.ServerProtocol` asks of its shell; to be done in the order given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class UserData:
    """
    Who a connection is signed in as.

    Args:
        id: The user's id as it travels: within Pusher's alphabet, see :func:`jobpush.channels.escape_user_id`.
        user_info: JSON text that others see on presence channels.
        watchlist: Ids of the users whose coming and going this connection wants to hear of.
    """

    id: str
    user_info: str = "{}"
    watchlist: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Member:
    """One user of a presence channel; ``user_info`` is JSON text, ``{}`` where none was given."""

    user_id: str
    user_info: str = "{}"


@dataclass(frozen=True, slots=True)
class Send:
    """Send one text message, ready as UTF-8; ``refusal``: the word by which to count what it refuses."""

    text: bytes
    refusal: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Subscribe:
    """
    Begin to hear a channel, then call :meth:`ServerProtocol.joined` or :meth:`ServerProtocol.refused`.

    Args:
        channel: Name of the channel; valid, and authorised but for ``owner_only``.
        since: Stream id of the last event that the client has; ``None``: it has none.
        member: Who joins; of presence channels only.
        owner_only: No signature was given: join only if the task of ``private-task-<id>`` belongs to the user.
    """

    channel: str
    since: str | None = None
    member: Member | None = None
    owner_only: bool = False


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """No longer hear a channel, as the client asked; ``user_id`` is its member's on presence channels."""

    channel: str
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class SignIn:
    """Note whose connection this is. Comes again with the same id where a client signs in twice."""

    user: UserData


@dataclass(frozen=True, slots=True)
class ClientEvent:
    """
    Publish an event to all of a channel but its sender.

    Args:
        channel: A private or presence channel that the sender has joined.
        event: Name of the event; begins with ``client-``.
        data: A JSON string, quotes included, as it stands on the wire.
        user_id: The sender's, on presence channels.
    """

    channel: str
    event: str
    data: str
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection after what was to be sent; the last action there is. Leave every channel."""

    code: int
    reason: str


Action: TypeAlias = Send | Subscribe | Unsubscribe | SignIn | ClientEvent | Close
