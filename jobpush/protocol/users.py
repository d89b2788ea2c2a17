"""Who somebody is: the user data of a sign-in, and the channel data of a presence channel."""

from __future__ import annotations

import math
from typing import Any

from .. import signing
from ..channels import MAX_USER_ID_LENGTH, SERVER_TO_USER, validate_channel
from ..errors import EventError, InvalidData, InvalidUserId
from ..events import encode
from .actions import Member, UserData
from .codes import InvalidMessage, NotAuthorized
from .reading import read_object
from .settings import ProtocolSettings


def authenticate(settings: ProtocolSettings, socket_id: str, auth: str | None, user_data: str | None) -> UserData:
    """
    The user as whom ``pusher:signin`` signs a connection in, with the whole of its watchlist.

    Raises:
        NotAuthorized: If the signature is missing or wrong, or what is signed names no user.
    """
    text = signing.user_text(socket_id, user_data or "")
    if not auth or not user_data or not signing.verify_auth(settings.key, settings.secrets, text, auth):
        raise NotAuthorized
    try:
        return read_user(user_data, max_user_info=settings.max_user_info)
    except EventError as exc:
        raise NotAuthorized(f"Connection not authorized: {exc}") from exc


def read_user(user_data: str, *, max_user_info: int) -> UserData:
    """
    The user whom ``user_data`` names.

    Raises:
        EventError: If it is no JSON object, or one of its members is not as documented.

    Source: Pusher Channels, "Authenticating users": ``id`` is text; "Watchlist events".
    """
    members = _members(user_data, "user_data")
    watchlist = members.get("watchlist") or []
    if not isinstance(watchlist, list):
        raise InvalidData("watchlist of user_data must be a list of user ids")
    ids = tuple(dict.fromkeys(_signin_id(user_id) for user_id in watchlist))
    return UserData(_signin_id(members.get("id")), _user_info(members, max_user_info), ids)


def read_member(channel_data: str, *, max_user_info: int) -> Member:
    """
    The member whom ``channel_data`` of ``pusher:subscribe`` names.

    Raises:
        EventError: If it is no JSON object, or one of its members is not as documented.

    Source: Pusher Channels, "Presence channels"; a number as ``user_id`` is its sample's own, and becomes text.
    """
    members = _members(channel_data, "channel_data")
    return Member(_member_id(members.get("user_id")), _user_info(members, max_user_info))


def _members(text: str, name: str) -> dict[str, Any]:
    try:
        return read_object(text)
    except InvalidMessage:
        raise InvalidData(f"{name} must be the text of a JSON object") from None


def _signin_id(user_id: object) -> str:
    """An id that can stand in a channel's name: this is how ``#server-to-user-<id>`` is made."""
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
        raise InvalidUserId(user_id, "is no finite number")
    text = str(user_id)
    _ensure_length(text)
    return text


def _ensure_length(user_id: str) -> None:
    if not user_id:
        raise InvalidUserId(user_id, "is empty")
    if len(user_id) > MAX_USER_ID_LENGTH:
        raise InvalidUserId(user_id, f"has {len(user_id)} characters; {MAX_USER_ID_LENGTH} are allowed")


def _user_info(members: dict[str, Any], limit: int) -> str:
    info = members.get("user_info")
    text = "{}" if info is None else encode(info)
    if len(text.encode()) > limit:
        raise InvalidData(f"user_info has {len(text.encode())} bytes; {limit} are allowed")
    return text
