"""Authorization of subscriptions: ``pusher:subscribe`` becomes a :class:`Subscribe`, or is refused."""

from __future__ import annotations

import re
from typing import Any

from .. import signing
from ..channels import ChannelKind, Topic, parse_channel, validate_channel
from ..config import Config
from ..errors import EventError
from ..tokens import ConnectionToken
from .actions import Member, Subscribe, UserData
from .codes import InvalidMessage, InvalidSubscription, SubscriptionUnauthorized
from .reading import read_text
from .sign_in import read_member

_STREAM_ID = re.compile(r"[0-9]{1,15}-[0-9]{1,10}")


def read_channel(request: dict[str, Any]) -> str:
    """
    Return the channel that a request names, unvalidated.

    Raises:
        InvalidMessage: If it has no channel.
    """
    channel = request.get("channel")
    if not isinstance(channel, str):
        raise InvalidMessage('"channel" must be text')
    return channel


def is_stream_id(text: str) -> bool:
    """Return whether an event may have this ``id``; other text is never sent to Redis."""
    return _STREAM_ID.fullmatch(text) is not None


def authorize(
    config: Config,
    socket_id: str,
    user: UserData | None,
    token: ConnectionToken | None,
    channel: str,
    request: dict[str, Any],
) -> Subscribe:
    """
    Check a subscription as far as possible without Redis.

    Raises:
        SubscriptionRefused: If the name is invalid, or the client is not authorized.
        InvalidMessage: If a member of the request has the wrong type.
    """
    try:
        validate_channel(channel)
    except EventError as exc:
        raise InvalidSubscription(channel, str(exc)) from exc
    kind = parse_channel(channel)
    auth, channel_data = read_text(request, "auth"), read_text(request, "channel_data")
    owner_only = is_claimed = False
    if auth is not None and kind.is_private:
        # The SDKs, like Reverb, sign channel_data of private channels too if the application sets it.
        text = signing.channel_text(socket_id, channel, channel_data)
        if not signing.verify_auth(config.key, config.secrets, text, auth):
            raise SubscriptionUnauthorized(channel, "The signature is not valid for this connection and channel")
    elif token is not None and token.covers(channel):
        is_claimed, channel_data = True, None  # that is unsigned
    elif not _is_open_to(user, kind):
        if user is None or kind.task_id is None:
            raise SubscriptionUnauthorized(channel, "The connection is not authorized for this channel")
        owner_only = True
    member = _member(config, user, channel, channel_data) if kind.is_presence else None
    is_alias = user is not None and user.alias is not None and kind.user_id == user.alias
    topic = Topic(f"user:{user.id}") if user is not None and is_alias else None
    return Subscribe(channel, _since(channel, request), member, owner_only, is_claimed, topic)


def _is_open_to(user: UserData | None, kind: ChannelKind) -> bool:
    """Return whether a channel needs no signature: a public one, or a signed-in user's own."""
    if kind.user_id is not None:  # after signing in, pusher-js subscribes to it with an empty auth
        return user is not None and kind.user_id in (user.id, user.alias)
    return not kind.is_private


def _member(config: Config, user: UserData | None, channel: str, channel_data: str | None) -> Member:
    """Return the member of a presence channel: the signed one, else the user. Source: ``presence_channel.ts``."""
    if channel_data is not None:
        try:
            return read_member(channel_data, max_user_info=config.max_user_info)
        except EventError as exc:
            raise InvalidSubscription(channel, str(exc)) from exc
    if user is None:
        raise InvalidSubscription(channel, "channel_data is missing, and the connection is not signed in")
    return Member(user.id, user.user_info)


def _since(channel: str, request: dict[str, Any]) -> str | None:
    since = read_text(request, "since")
    if since is not None and not is_stream_id(since):
        raise InvalidSubscription(channel, "since must be the id of an event")
    return since
