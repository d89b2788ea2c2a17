"""Who may hear which channel: asked by Pusher's auth endpoint and by event streams, in the request context."""

from __future__ import annotations

from collections.abc import Mapping

from ...channels import parse_channel, unescape_id, validate_channel
from ...errors import InvalidChannelName, JobPushError, TaskNotFound
from ...events import encode
from ...protocol.actions import UserData
from ...signing import channel_auth, user_auth
from .extension import GatewayState


class Forbidden(JobPushError):
    """The user of a request may not do what it asks for."""

    code = "forbidden"


def authorize_user(state: GatewayState, socket_id: str) -> dict[str, str]:
    """
    Sign in the user of the present request. Source: Pusher, "User authentication".

    Raises:
        Forbidden: If there is none.
    """
    user = state.user()
    if user is None:
        raise Forbidden("nobody is signed in")
    user_data = encode({"id": user.id})
    config = state.config
    return {"auth": user_auth(config.key, config.secret, socket_id, user_data), "user_data": user_data}


def authorize_channel(state: GatewayState, socket_id: str, channel: str) -> dict[str, str]:
    """
    Let the user of the present request join a channel. Source: Pusher, "Authorizing users".

    Raises:
        Forbidden: If the user may not.
        StoreError: If it has to be looked up whose task it is, and can't.
    """
    try:
        validate_channel(channel)
    except InvalidChannelName as exc:
        raise Forbidden(str(exc)) from exc
    user = state.user()
    granted = _ask(state, user, channel)
    if not granted and not isinstance(granted, Mapping):
        raise Forbidden(f"you may not join {channel}")
    channel_data = None
    if parse_channel(channel).is_presence:
        if user is None:
            raise Forbidden("nobody is signed in")
        channel_data = encode({"user_id": user.id, "user_info": granted if isinstance(granted, Mapping) else {}})
    config = state.config
    auth = {"auth": channel_auth(config.key, config.secret, socket_id, channel, channel_data)}
    return auth if channel_data is None else {**auth, "channel_data": channel_data}


def _ask(state: GatewayState, user: UserData | None, channel: str) -> bool | Mapping[str, object]:
    """What is a user's or a task's own is never the application's to give to somebody else."""
    kind = parse_channel(channel)
    if not kind.is_private:
        return False
    if kind.user_id is not None:
        return user is not None and kind.user_id == user.id
    if kind.task_id is not None:
        return user is not None and owns_task(state, user, unescape_id(kind.task_id))
    authorizer = state.gateway.channel_authorizer
    if authorizer is None:
        return False
    return authorizer(None if user is None else unescape_id(user.id), channel)


def owns_task(state: GatewayState, user: UserData, task_id: str) -> bool:
    """
    Whether a task is the user's.

    Raises:
        StoreError: If Redis does not answer.
    """
    try:
        return state.store.owner(task_id) == unescape_id(user.id)
    except TaskNotFound:
        return False
