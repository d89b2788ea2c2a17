"""
Channel names (visible to browsers) and topics (Redis only). All functions are pure.

A user's own channel has two names: ``#server-to-user-<id>`` for clients that sign in and ``private-user-<id>`` for
clients that cannot. The topic ``user:<id>`` feeds both. The topic of a task's owner feeds the task's channel,
``private-task-<id>``. Every other channel has its own topic, ``channel:<name>``.
"""

from __future__ import annotations

import operator
import re
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple, NewType
from urllib.parse import quote, unquote
from uuid import UUID

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

#: Prefix of an escaped id. An id that has this prefix itself is escaped too, so escaped ids never collide.
_ESCAPED = "=u="
#: Classes of ids and of lazy objects, by name: their packages need not be installed.
_ID_KINDS = frozenset({"ObjectId", "ULID"})
_LAZY_KINDS = frozenset({"SimpleLazyObject", "LazyObject", "LocalProxy", "Proxy", "PromiseProxy"})
#: Pusher Channels, "Channel naming conventions".
_PLAIN = re.compile(r"[-A-Za-z0-9_=@,.;]+", re.ASCII)


def escape_id(text: str) -> str:
    """
    Write a user or task id with the characters that Pusher allows in channel names.

    An id of those characters is returned unchanged, so stock clients and SDKs use the same names. Any other id becomes
    ``=u=`` and its UTF-8 bytes, with ``=XX`` (hexadecimal) for each byte outside the alphabet.
    """
    if _PLAIN.fullmatch(text) and not text.startswith(_ESCAPED):
        return text
    quoted = quote(text, safe="@,;", errors="surrogatepass")  # which always leaves letters, digits and _.-~
    return _ESCAPED + quoted.replace("~", "%7E").replace("%", "=")


def escape_mark(*escaped: str) -> dict[str, bool]:
    """Return the member that marks signed user data with escaped ids. Unmarked ids, of Pusher's SDKs, are plain."""
    return {"escaped": True} if any(one.startswith(_ESCAPED) for one in escaped) else {}


def unescape_id(escaped: str) -> str:
    """Reverse :func:`escape_id`. Text that it cannot have written is returned unchanged."""
    if not escaped.startswith(_ESCAPED):
        return escaped
    try:
        text = unquote(escaped[len(_ESCAPED) :].replace("=", "%"), errors="surrogatepass")
    except ValueError:
        return escaped
    return text if escape_id(text) == escaped else escaped


def id_text(value: Any) -> str | None:
    """
    Return the text of an id of any type; ``None`` if it is not an id.

    Ids are text, integers and UUIDs; their subclasses, ignoring their own ``__str__``; integers of numpy; whole
    ``Decimal`` numbers, as drivers of databases return them; lazy objects of Django or werkzeug; ObjectIds and ULIDs.
    ``bool``, ``float`` and ``bytes`` are not.
    """
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]
    if issubclass(kind, str):
        return str.__str__(value)
    if isinstance(value, bool) or kind.__name__ in ("bool_", "bool"):
        return None
    if hasattr(kind, "__index__"):
        try:
            return str(operator.index(value))
        except ValueError:  # Python writes no integer of more than 4,300 digits
            return None
        except TypeError:  # a lazy object of another class
            pass
    if isinstance(value, Decimal):
        number = Decimal(str(value))  # it may be a lazy object, which has no __int__
        is_whole = number.is_finite() and number.adjusted() < MAX_USER_ID_LENGTH and number == int(number)
        return str(int(number)) if is_whole else None
    is_lazy = kind.__name__ in _LAZY_KINDS or any(base.__name__ == "Promise" for base in kind.__mro__)
    if is_lazy or isinstance(value, (str, int)):
        return _lazy_id_text(value)
    return str(value) if isinstance(value, UUID) or kind.__name__ in _ID_KINDS else None


def _lazy_id_text(value: Any) -> str | None:
    """Return the id behind a lazy object that reports the class of the id, or is text."""
    real = value.__class__
    if real is bool or not (issubclass(real, (str, int, UUID)) or real is type(value) or real.__name__ in _ID_KINDS):
        return None
    return str(value)


def escape_user_id(user_id: object) -> str:
    """
    Validate a user id and escape it; see :func:`id_text`.

    Raises:
        InvalidUserId: If it is empty, not an id, or longer than 128 characters once escaped.
    """
    text = id_text(user_id)
    if text is None:
        raise InvalidUserId(user_id, "must be text, an integer or a UUID")
    if not text:
        raise InvalidUserId(user_id, "is empty")
    escaped = escape_id(text)
    if len(escaped) > MAX_USER_ID_LENGTH:
        raise InvalidUserId(user_id, f"has {len(escaped)} characters on the wire; {MAX_USER_ID_LENGTH} are allowed")
    return escaped


def checked_user_id(user_id: object) -> str:
    """
    Return a user id as its text.

    Raises:
        InvalidUserId: As :func:`escape_user_id`.
    """
    escape_user_id(user_id)
    return id_text(user_id) or ""


def user_channel(user_id: object) -> str:
    """Return the channel of a signed-in user: ``user_channel("42") == "#server-to-user-42"``."""
    return SERVER_TO_USER + escape_user_id(user_id)


def task_channel(task_id: str) -> str:
    """Return the channel of one task: ``task_channel("d1c2") == "private-task-d1c2"``."""
    return PRIVATE_TASK + escape_id(task_id)


def user_topic(user_id: object) -> Topic:
    """Return the topic of a user: ``user_topic("42") == "user:42"``."""
    return Topic(f"user:{escape_user_id(user_id)}")


def watch_topic(user_id: str) -> Topic:
    """Return the topic that announces when a user (escaped id) comes online or goes offline."""
    return Topic(f"watch:{user_id}")


class ChannelKind(NamedTuple):
    """
    A parsed channel name.

    Args:
        name: The name.
        topic: The topic that feeds the channel; ``None`` for a task's channel: its owner must be looked up.
        occupancy_topic: The topic under which its connections are counted. A task's channel has its own.
        user_id: Escaped id of the user, for a user's own channel.
        task_id: Escaped id of the task, for a task's channel.
        is_private: Whether a subscription must be authorised: private and presence channels.
        is_presence: Whether the channel lists its members.
        is_encrypted: Whether its data is end-to-end encrypted, so that only its sender may write it.
        is_cache: Whether Redis keeps its last event for later subscribers. Source: Pusher Channels, "Cache channels".
    """

    name: str
    topic: Topic | None
    occupancy_topic: Topic
    user_id: str | None = None
    task_id: str | None = None
    is_private: bool = False
    is_presence: bool = False
    is_encrypted: bool = False
    is_cache: bool = False


def parse_channel(name: str) -> ChannelKind:
    """Parse a channel name. An invalid name has a kind too: validate names that clients send."""
    return _parse_cached(name) if len(name) <= MAX_CHANNEL_LENGTH else _parse(name)


def _parse(name: str) -> ChannelKind:
    for prefix in (SERVER_TO_USER, PRIVATE_USER):
        if name.startswith(prefix):
            user_id = name[len(prefix) :]
            topic = Topic(f"user:{user_id}")
            return ChannelKind(name, topic, topic, user_id, is_private=prefix == PRIVATE_USER)
    task_id = name[len(PRIVATE_TASK) :] if name.startswith(PRIVATE_TASK) else None
    topic = Topic(f"channel:{name}")
    return ChannelKind(
        name,
        topic=topic if task_id is None else None,
        occupancy_topic=topic,
        task_id=task_id,
        is_private=name.startswith(("private-", "presence-")),
        is_presence=name.startswith("presence-"),
        is_encrypted=name.startswith("private-encrypted-"),
        is_cache=name.startswith(("cache-", "private-cache-", "private-encrypted-cache-", "presence-cache-")),
    )


_parse_cached = lru_cache(maxsize=512)(_parse)


def validate_channel(channel: object) -> str:
    """
    Return a channel name that Pusher accepts, or ``#server-to-user-<id>``.

    Raises:
        InvalidChannelName: If it is neither.

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
    Return an event name that an application may use.

    Raises:
        InvalidEventName: If it is not text, empty, too long, or reserved by Pusher (``pusher:…``).

    Source: Pusher Channels, "Publishing events".
    """
    if not isinstance(event, str) or not event:
        raise InvalidEventName(event, "must be text and not empty")
    if len(event) > MAX_EVENT_LENGTH:
        raise InvalidEventName(event, f"has {len(event)} characters; {MAX_EVENT_LENGTH} are allowed")
    if event.startswith(("pusher:", "pusher_internal:")):
        raise InvalidEventName(event, "begins with a prefix reserved for the protocol")
    return event
