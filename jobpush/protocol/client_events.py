"""Client events: the rules of Pusher for events between clients."""

from __future__ import annotations

from collections.abc import Collection

from ..channels import parse_channel, validate_event
from ..errors import EventError
from ..events import encode
from .actions import ClientEvent
from .codes import ClientEventRejected
from .reading import ABSENT

#: Prefix of the name of a client event.
PREFIX = "client-"


def ensure_allowed(channels: Collection[str], channel: str) -> None:
    """
    Check that the sender may send to a channel.

    Args:
        channels: The channels to which the sender is subscribed.
        channel: The channel of the event.

    Raises:
        ClientEventRejected: If the sender is not subscribed, or the channel accepts none.

    Source: Pusher Channels protocol, "Triggering Channel Client Events"; encrypted channels, since a client's event
    would go in plain text.
    """
    if channel not in channels:
        raise _rejected(channel, "the channel is not subscribed")
    kind = parse_channel(channel)
    if not kind.is_private:
        raise _rejected(channel, "only private and presence channels accept them")
    if kind.is_encrypted:
        raise _rejected(channel, "an encrypted channel accepts none")


def read_client_event(channel: str, event: str, data: object, *, user_id: str | None, max_data: int) -> ClientEvent:
    """
    Return the action of a client event; data that is not text is encoded once.

    Raises:
        ClientEventRejected: If either is too long.
    """
    try:
        validate_event(event)
        if data is ABSENT:
            return ClientEvent(channel, event, None, user_id)
        text = data if isinstance(data, str) else encode(data)
    except EventError as exc:
        raise _rejected(channel, str(exc)) from exc
    size = len(text.encode("utf-8", "replace"))
    if size > max_data:
        raise _rejected(channel, f"its data has {size} bytes; {max_data} are allowed")
    return ClientEvent(channel, event, encode(text), user_id)


def _rejected(channel: str, reason: str) -> ClientEventRejected:
    return ClientEventRejected(f"Client event rejected: {reason}", channel=channel)
