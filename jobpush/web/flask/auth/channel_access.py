"""Access to channels and tasks, for Pusher's auth endpoint and for event streams, in the request context."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ....channels import escape_mark, parse_channel, unescape_id, validate_channel
from ....errors import InvalidChannelName, TaskNotFound
from ....events import encode
from ....protocol.actions import UserData
from ....signing import channel_auth, user_auth
from ..refusals import Forbidden
from ..state import GatewayState
from .bearer_token import current_token
from .request_user import current_user


def authorize_user(state: GatewayState, socket_id: str) -> dict[str, str]:
    """
    Sign the current request's user. Source: Pusher, "User authentication".

    Raises:
        Forbidden: If the request has no user.
    """
    user = current_user(state)
    if user is None:
        raise Forbidden("nobody is signed in")
    info = {} if user.user_info == "{}" else {"user_info": json.loads(user.user_info)}
    user_data = encode({"id": user.id, **info, **escape_mark(user.id)})
    config = state.config
    return {"auth": user_auth(config.key, config.secret, socket_id, user_data), "user_data": user_data}


def authorize_channel(state: GatewayState, socket_id: str, channel: str) -> dict[str, str]:
    """
    Sign a channel for the current request's user. Source: Pusher, "Authorizing users".

    Raises:
        Forbidden: If the user may not join it.
        StoreError: If Redis does not return the owner of the channel's task.
    """
    try:
        validate_channel(channel)
    except InvalidChannelName as exc:
        raise Forbidden(str(exc)) from exc
    user = current_user(state)
    granted = _granted(state, user, channel)
    if not granted and not isinstance(granted, Mapping):
        raise Forbidden(f"you may not join {channel}")
    channel_data = None
    if parse_channel(channel).is_presence:
        if user is None:
            raise Forbidden("nobody is signed in")
        info = granted if isinstance(granted, Mapping) else json.loads(user.user_info)
        channel_data = encode({"user_id": user.id, "user_info": info})
    config = state.config
    auth = {"auth": channel_auth(config.key, config.secret, socket_id, channel, channel_data)}
    return auth if channel_data is None else {**auth, "channel_data": channel_data}


def _granted(state: GatewayState, user: UserData | None, channel: str) -> bool | Mapping[str, object]:
    """Ask the application, except for channels of single users and tasks, which belong to their owner."""
    kind = parse_channel(channel)
    if not kind.is_private:
        return False
    token = current_token(state)
    if token is not None and token.covers(channel):
        return json.loads(token.user_info) if kind.is_presence else True
    if kind.user_id is not None:
        return user is not None and kind.user_id == user.id
    if kind.task_id is not None:
        return user is not None and owns_task(state, user, unescape_id(kind.task_id))
    authorizer = state.callbacks.channel_authorizer
    if authorizer is None:
        return False
    return authorizer(None if user is None else unescape_id(user.id), channel)


def owns_task(state: GatewayState, user: UserData, task_id: str) -> bool:
    """
    Return whether a task belongs to a user.

    Raises:
        StoreError: If Redis does not answer.
    """
    try:
        return state.store.owner(task_id) == unescape_id(user.id)
    except TaskNotFound:
        return False
