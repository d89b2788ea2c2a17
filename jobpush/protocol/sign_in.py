"""The user data of a sign-in, and the channel data of a presence channel."""

from __future__ import annotations

import math
from typing import Any

from .. import signing
from ..channels import MAX_USER_ID_LENGTH, SERVER_TO_USER, escape_id, validate_channel
from ..config import Config
from ..errors import EventError, InvalidData, InvalidUserId
from ..events import encode
from .actions import Member, UserData
from .codes import InvalidMessage, NotAuthorized
from .reading import read_object


def authenticate(config: Config, socket_id: str, auth: str | None, user_data: str | None) -> UserData:
    """
    Return the user of a ``pusher:signin``, with the whole watchlist.

    Raises:
        NotAuthorized: If the signature is missing or wrong, or the signed data names no user.
    """
    text = signing.user_text(socket_id, user_data or "")
    if not auth or not user_data or not signing.verify_auth(config.key, config.secrets, text, auth):
        raise NotAuthorized
    try:
        return read_user(user_data, max_user_info=config.max_user_info)
    except EventError as exc:
        raise NotAuthorized(f"Connection not authorized: {exc}") from exc


def read_user(user_data: str, *, max_user_info: int) -> UserData:
    """
    Return the user in ``user_data``.

    Raises:
        EventError: If it is not a JSON object, or one of its members is invalid.

    Source: Pusher Channels, "Authenticating users": ``id`` is text; "Watchlist events".
    """
    members = _members(user_data, "user_data")
    watchlist = members.get("watchlist") or []
    if not isinstance(watchlist, list):
        raise InvalidData("watchlist of user_data must be a list of user ids")
    # The SDKs do not escape ids: one that looks escaped is taken literally, unless jobpush's signer marked it.
    to_wire = _signin_id if members.get("escaped") is True else lambda user_id: escape_id(_signin_id(user_id))
    ids = tuple(dict.fromkeys(map(to_wire, watchlist)))
    given = members.get("id")
    user_id = to_wire(given)
    return UserData(
        user_id, read_user_info(members, max_user_info), ids, alias=None if user_id == given else str(given)
    )


def read_member(channel_data: str, *, max_user_info: int) -> Member:
    """
    Return the member in the ``channel_data`` of a ``pusher:subscribe``.

    Raises:
        EventError: If it is not a JSON object, or one of its members is invalid.

    Source: Pusher Channels, "Presence channels"; its sample has a number as ``user_id``, which becomes text.
    """
    members = _members(channel_data, "channel_data")
    return Member(_member_id(members.get("user_id")), read_user_info(members, max_user_info))


def read_user_info(members: dict[str, Any], limit: int) -> str:
    """
    Return the JSON text of ``user_info``.

    Args:
        members: The members of a user's or a channel's data.
        limit: Bytes that the text may have.

    Raises:
        InvalidData: If it is not an object, or too long.
    """
    info = members.get("user_info")
    if info is None:
        return "{}"
    if not isinstance(info, dict):
        raise InvalidData("user_info must be a JSON object")
    text = encode(info)
    if len(text.encode()) > limit:
        raise InvalidData(f"user_info has {len(text.encode())} bytes; {limit} are allowed")
    return text


def _members(text: str, name: str) -> dict[str, Any]:
    try:
        return read_object(text)
    except InvalidMessage:
        raise InvalidData(f"{name} must be the text of a JSON object") from None


def _signin_id(user_id: object) -> str:
    """Return an id that is valid in a channel's name, ``#server-to-user-<id>``."""
    if not isinstance(user_id, str):
        raise InvalidUserId(user_id, "must be text")
    _ensure_length(user_id)
    try:
        validate_channel(SERVER_TO_USER + user_id)
    except EventError:
        raise InvalidUserId(user_id, "may have only letters, digits and -_=@,.;") from None
    return user_id


def _member_id(user_id: object) -> str:
    if isinstance(user_id, float) and user_id.is_integer():
        user_id = int(user_id)  # JSON has one kind of number: 10.0 is 10
    if isinstance(user_id, bool) or not isinstance(user_id, (str, int, float)):
        raise InvalidUserId(user_id, "must be text or a number")
    if isinstance(user_id, float) and not math.isfinite(user_id):
        raise InvalidUserId(user_id, "is not a finite number")
    text = str(user_id)
    _ensure_length(text)
    return text


def _ensure_length(user_id: str) -> None:
    if not user_id:
        raise InvalidUserId(user_id, "is empty")
    if len(user_id) > MAX_USER_ID_LENGTH:
        raise InvalidUserId(user_id, f"has {len(user_id)} characters; {MAX_USER_ID_LENGTH} are allowed")
