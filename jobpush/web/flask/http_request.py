"""Requests to Pusher's HTTP API: their signatures and bodies."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeAlias

from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, Unauthorized

from ... import signing
from ...channels import parse_channel, validate_channel, validate_event
from ...config import Config
from ...errors import EventError
from ...events import encode
from ...protocol.codes import InvalidMessage
from ...protocol.reading import read_json
from ...store import Notification

#: Attributes that a trigger request may ask for.
COUNTS = frozenset({"user_count", "subscription_count"})

#: An event to publish, and the counts that the response has for each of its channels.
Trigger: TypeAlias = tuple[Notification, frozenset[str]]

_AUTH_VERSION = "1.0"
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_SOCKET_ID = re.compile(r"[0-9]{1,20}\.[0-9]{1,20}")


def check_signature(
    config: Config,
    now: float,
    method: str,
    paths: Iterable[str],
    query: Mapping[str, str],
    read_body: Callable[[], bytes],
) -> None:
    """
    Check that a request was signed with the secret, recently. The body is read after its signature is checked.

    All query parameters are signed as they arrived: pusher-http-python signs ``body_md5`` on GET too, which Reverb
    strips and refuses. A body needs its hash among them.

    Args:
        config: Key, secret and allowed clock skew.
        now: Unix seconds.
        method: Of the request.
        paths: All that the client may have signed: with and without the prefix of a proxy or a mount point.
        query: Of the request.
        read_body: Returns the body.

    Raises:
        Unauthorized: If anything is missing, wrong or old.
        HTTPException: As raised by ``read_body``.

    Source: Pusher HTTP API reference, "Authentication".
    """
    if not hmac.compare_digest(config.key.encode(), query.get("auth_key", "").encode("utf-8", "replace")):
        raise Unauthorized("auth_key is missing or unknown")
    if query.get("auth_version") != _AUTH_VERSION:
        raise Unauthorized(f"auth_version must be {_AUTH_VERSION}")
    _ensure_recent(query.get("auth_timestamp", ""), now, config.max_clock_skew)
    signature = query.get("auth_signature", "")
    texts = [signing.http_text(method, path, query) for path in dict.fromkeys(paths)]
    if not any([signing.verify(config.secrets, text, signature) for text in texts]):
        raise Unauthorized(f"Invalid signature: HMAC-SHA256 in hexadecimal of {texts[0]!r} is expected")
    body = read_body()
    digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
    if body and not hmac.compare_digest(digest, query.get("body_md5", "").lower()):
        raise Unauthorized("body_md5 is not the MD5 of the body")


def read_trigger(body: bytes, config: Config) -> Trigger:
    """
    Read the body of ``POST …/events``: ``{"name", "data", "channels" or "channel", "socket_id"?, "info"?}``.

    Raises:
        BadRequest: If it has another form, or exceeds a limit.
        RequestEntityTooLarge: If the data of an event is too long.
    """
    members = _read_object(body)
    channels = members.get("channels")
    if channels is None:
        channels = [members.get("channel")]
    elif not isinstance(channels, list) or not channels:
        raise BadRequest("channels must be a list of one or more channel names")
    if len(channels) > config.max_channels_per_trigger:
        raise BadRequest(f"{len(channels)} channels are given; {config.max_channels_per_trigger} are allowed")
    return _trigger(members, channels, config)


def read_batch(body: bytes, config: Config) -> list[Trigger]:
    """
    Read the body of ``POST …/batch_events``: ``{"batch": [{"name", "data", "channel", "socket_id"?, "info"?}]}``.

    Raises:
        BadRequest: If it has another form, or exceeds a limit.
        RequestEntityTooLarge: If the data of an event is too long.
    """
    batch = _read_object(body).get("batch")
    if not isinstance(batch, list) or not all(isinstance(members, dict) for members in batch):
        raise BadRequest("batch must be a list of events")
    if len(batch) > config.max_batch:
        raise BadRequest(f"batch has {len(batch)} events; {config.max_batch} are allowed")
    return [_trigger(members, [members.get("channel")], config) for members in batch]


def read_channel_name(channel: object) -> str:
    """
    Return a channel's name.

    Raises:
        BadRequest: If it is invalid.
    """
    try:
        return validate_channel(channel)
    except EventError as exc:
        raise BadRequest(str(exc)) from exc


def read_info(info: object, allowed: Collection[str]) -> frozenset[str]:
    """
    Return the attributes that ``info`` names, separated by commas.

    Raises:
        BadRequest: If one of them is not allowed.
    """
    if info is None:
        return frozenset()
    if not isinstance(info, str):
        raise BadRequest("info must be text: names of attributes, separated by commas")
    names = frozenset(name.strip() for name in info.split(",") if name.strip())
    unknown = sorted(names.difference(allowed))
    if unknown:
        raise BadRequest(f"info has no {unknown[0][:40]!r} here; it has {', '.join(sorted(allowed))}")
    return names


def _ensure_recent(timestamp: str, now: float, skew: int) -> None:
    if not _TIMESTAMP.fullmatch(timestamp):
        raise Unauthorized("auth_timestamp must be Unix seconds")
    if abs(now - int(timestamp)) > skew:
        raise Unauthorized(f"auth_timestamp {timestamp} is not within {skew} s of the server's time, {now:.0f}")


def _read_object(body: bytes) -> dict[str, Any]:
    try:
        members = read_json(body.decode())
    except (InvalidMessage, UnicodeDecodeError):
        raise BadRequest("the body is not valid JSON") from None
    if not isinstance(members, dict):
        raise BadRequest("the body must be a JSON object")
    return members


def _trigger(members: dict[str, Any], channels: list[object], config: Config) -> Trigger:
    names = tuple(read_channel_name(channel) for channel in channels)
    if len(names) > 1 and any(parse_channel(name).is_encrypted for name in names):
        raise BadRequest("an event for an encrypted channel may have no other channel: each has its own key")
    try:
        event = validate_event(members.get("name"))
        if "data" not in members:
            raise BadRequest("data is missing")
        data = members["data"]
        if not isinstance(data, str):
            data = encode(data)  # once; Pusher and Reverb refuse it, soketi accepts it
    except EventError as exc:
        raise BadRequest(str(exc)) from exc
    size = len(data.encode("utf-8", "replace"))
    if size > config.max_data:
        raise RequestEntityTooLarge(f"the data of {event!r} has {size} bytes; {config.max_data} are allowed")
    return Notification(names, event, data, _socket_id(members)), read_info(members.get("info"), COUNTS)


def _socket_id(members: dict[str, Any]) -> str | None:
    socket_id = members.get("socket_id")
    if socket_id is None:
        return None
    if not isinstance(socket_id, str) or not _SOCKET_ID.fullmatch(socket_id):
        raise BadRequest("socket_id must be like 1234.1234")
    return socket_id
