"""
Names of channels (which browsers see) and of topics (which Redis sees); all pure.

A user's own channel goes by two names, ``#server-to-user-<id>`` for who signs in and ``private-user-<id>``
for who can't; both are fed by one topic, ``user:<id>``. A task's channel, ``private-task-<id>``, is fed by the
topic of its owner. Each other channel has a topic of its own, ``channel:<name>``.
"""

from __future__ import annotations

import re
from typing import NewType

from .errors import InvalidChannelName, InvalidEventName, InvalidUserId

Topic = NewType("Topic", str)

#: Characters. Pusher's SDKs allow 200, its documentation 164 in one place.
MAX_CHANNEL_LENGTH = 200
#: Characters, escaped. Pusher Channels, "Presence channels": user ids have at most 128.
MAX_USER_ID_LENGTH = 128
#: Characters. Pusher HTTP API, "Publishing events".
MAX_EVENT_LENGTH = 200

SERVER_TO_USER = "#server-to-user-"
PRIVATE_USER = "private-user-"
PRIVATE_TASK = "private-task-"

#: What an escaped id begins with. An id that begins so by itself is escaped too, so no two ids meet.
_ESCAPED = "=u="
#: Pusher Channels, "Channel naming conventions".
_PLAIN = re.compile(r"[-A-Za-z0-9_=@,.;]+", re.ASCII)
_KEPT = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_@,.;")


def escape_id(text: str) -> str:
    """
    Write any user or task id with the characters that Pusher allows in channel names.

    Ids of those characters stay as they are, so stock clients and SDKs meet the same names; others become
    ``=u=`` and their UTF-8 bytes, with ``=XX`` (hexadecimal) for each byte outside the alphabet.
    """
    if _PLAIN.fullmatch(text) and not text.startswith(_ESCAPED):
        return text
    data = text.encode("utf-8", "surrogatepass")
    return _ESCAPED + "".join(chr(byte) if byte in _KEPT else f"={byte:02X}" for byte in data)


def unescape_id(escaped: str) -> str:
    """The id that :func:`escape_id` was given; what it never wrote is an id of its own, and stays as it is."""
    if not escaped.startswith(_ESCAPED):
        return escaped
    first, *rest = escaped[len(_ESCAPED) :].split("=")
    try:
        data = first.encode() + b"".join(bytes([int(part[:2], 16)]) + part[2:].encode() for part in rest)
        text = data.decode("utf-8", "surrogatepass")
    except ValueError:
        return escaped
    return text if escape_id(text) == escaped else escaped


def escape_user_id(user_id: object) -> str:
    """
    Check a user id and escape it. Integers are taken as their decimal text.

    Raises:
        InvalidUserId: If it is empty, no text, or longer than 128 characters once escaped.
    """
    if isinstance(user_id, bool) or not isinstance(user_id, (str, int)):
        raise InvalidUserId(user_id, "must be text or an integer")
    text = str(user_id)
    if not text:
        raise InvalidUserId(user_id, "is empty")
    escaped = escape_id(text)
    if len(escaped) > MAX_USER_ID_LENGTH:
        raise InvalidUserId(user_id, f"has {len(escaped)} characters on the wire; {MAX_USER_ID_LENGTH} are allowed")
    return escaped


def user_channel(user_id: str | int) -> str:
    """The channel of a user who signs in: ``user_channel("42") == "#server-to-user-42"``."""
    return SERVER_TO_USER + escape_user_id(user_id)


def private_user_channel(user_id: str | int) -> str:
    """The same for clients that cannot sign in: ``private_user_channel("42") == "private-user-42"``."""
    return PRIVATE_USER + escape_user_id(user_id)


def task_channel(task_id: str) -> str:
    """The channel of one task: ``task_channel("d1c2") == "private-task-d1c2"``."""
    return PRIVATE_TASK + escape_id(task_id)


def user_topic(user_id: str | int) -> Topic:
    """The topic of a user: ``user_topic("42") == "user:42"``."""
    return Topic(f"user:{escape_user_id(user_id)}")


def topic_for(channel: str) -> Topic | None:
    """The topic that feeds a channel; ``None`` for a task's, whose owner has to be asked for."""
    for prefix in (SERVER_TO_USER, PRIVATE_USER):
        if channel.startswith(prefix):
            return Topic(f"user:{channel[len(prefix) :]}")
    return None if channel.startswith(PRIVATE_TASK) else Topic(f"channel:{channel}")


def validate_channel(channel: object) -> str:
    """
    Let a channel name pass that Pusher would let pass, and ``#server-to-user-<id>``.

    Raises:
        InvalidChannelName: Otherwise.

    Source: Pusher Channels, "Channel naming conventions"; ``#`` as in pusher-js ``user.ts``.
    """
    if not isinstance(channel, str):
        raise InvalidChannelName(channel, "must be text")
    if len(channel) > MAX_CHANNEL_LENGTH:
        raise InvalidChannelName(channel, f"has {len(channel)} characters; {MAX_CHANNEL_LENGTH} are allowed")
    bare = channel[len(SERVER_TO_USER) :] if channel.startswith(SERVER_TO_USER) else channel
    if not _PLAIN.fullmatch(bare):
        raise InvalidChannelName(channel, "may have only letters, digits and -_=@,.;")
    return channel


def validate_event(event: object) -> str:
    """
    Let an event name pass that an application may use.

    Raises:
        InvalidEventName: If it is no text, empty, too long, or one of Pusher's own (``pusher:…``).

    Source: Pusher Channels, "Publishing events".
    """
    if not isinstance(event, str) or not event:
        raise InvalidEventName(event, "must be text and not empty")
    if len(event) > MAX_EVENT_LENGTH:
        raise InvalidEventName(event, f"has {len(event)} characters; {MAX_EVENT_LENGTH} are allowed")
    if event.startswith(("pusher:", "pusher_internal:")):
        raise InvalidEventName(event, "begins with a prefix that belongs to the protocol")
    return event


def is_private(channel: str) -> bool:
    """Whether a subscription must be authorised: private, presence and all that derive from them."""
    return channel.startswith(("private-", "presence-"))


def is_presence(channel: str) -> bool:
    """Whether the channel lists its members."""
    return channel.startswith("presence-")


def is_encrypted(channel: str) -> bool:
    """Whether the data of the channel is encrypted from end to end, so that only its sender may write it."""
    return channel.startswith("private-encrypted-")


def is_cache(channel: str) -> bool:
    """
    Whether the last event of the channel is kept for those who come later.

    Source: Pusher Channels, "Cache channels": four forms.
    """
    return channel.startswith(("cache-", "private-cache-", "private-encrypted-cache-", "presence-cache-"))
