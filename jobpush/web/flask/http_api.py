"""Pusher's server HTTP API as a Flask blueprint: publish events, ask for channels and users, end connections."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

from flask import Blueprint, Response, request

from ...channels import escape_user_id, parse_channel, unescape_id
from ...config import Config
from ...errors import EventError, JobPushError, StoreError, TaskNotFound
from ...events import encode
from ...protocol.http_request import (
    COUNTS,
    BadRequest,
    HttpError,
    NotFound,
    SignedRequest,
    TooLarge,
    Trigger,
    Unauthorized,
    check_signature,
    read_batch,
    read_channel_name,
    read_info,
    read_trigger,
)
from ...store import Notification

_log = logging.getLogger(__name__)


class Publisher(Protocol):
    """What publishes events: :class:`jobpush.store.Store`."""

    def trigger_batch(self, notifications: Sequence[Notification]) -> object:
        """As :meth:`jobpush.store.Store.trigger_batch`."""


class CachedEvent(Protocol):
    """The last event of a cache channel: its data, and the whole seconds that it is kept yet."""

    @property
    def data(self) -> str: ...
    @property
    def ttl(self) -> int: ...


class ChannelInfo(Protocol):
    """The state of one channel; ``user_count`` of presence channels, ``cache`` of cache channels."""

    @property
    def subscription_count(self) -> int: ...
    @property
    def user_count(self) -> int: ...
    @property
    def cache(self) -> CachedEvent | None: ...


class Directory(Protocol):
    """Who is there, over all gateways. User ids are the application's own, not escaped."""

    def channels(self, prefix: str) -> Mapping[str, ChannelInfo]:
        """The channels that somebody has joined, and whose names begin with ``prefix``."""

    def channel(self, name: str) -> ChannelInfo:
        """One channel, whether somebody has joined it or not."""

    def member_ids(self, channel: str) -> Iterable[str]:
        """Ids of the members of a presence channel, as the channel tells them."""

    def online_users(self, cursor: str | None) -> tuple[Iterable[str], str | None]:
        """Ids of all who are signed in, a page of them, and the cursor of the next; ``None``: the first, no more."""

    def user(self, user_id: str) -> int:
        """How many connections are signed in as a user."""

    def disconnect(self, user_id: str) -> object:
        """Close all connections that are signed in as a user, with a code (4009) that keeps them from coming back."""


def http_api(
    config: Config,
    publisher: Publisher,
    directory: Directory,
    *,
    clock: Callable[[], float] = time.time,
    on_refused: Callable[[str], None] = lambda reason: None,
) -> Blueprint:
    """
    Make the blueprint; register it at the root, below a prefix, or both.

    Args:
        config: Credentials and limits.
        publisher: Takes the events.
        directory: Answers the questions.
        clock: Unix seconds.
        on_refused: Told, in one word, why a request that is not signed as it must be was refused.
    """
    api = _HttpApi(config, publisher, directory, clock, on_refused)
    blueprint = Blueprint("jobpush_http_api", __name__)
    blueprint.before_request(api.authenticate)  # for every route there is, so none can be forgotten
    blueprint.register_error_handler(JobPushError, _error)
    for method, rule, view in (
        ("POST", "/events", api.trigger),
        ("POST", "/batch_events", api.trigger_batch),
        ("GET", "/channels", api.channels),
        ("GET", "/channels/<channel>", api.channel),
        ("GET", "/channels/<channel>/users", api.members),
        ("GET", "/users", api.users),
        ("GET", "/users/<user_id>", api.user),
        ("POST", "/users/<user_id>/terminate_connections", api.terminate_connections),
    ):
        blueprint.add_url_rule(f"{_ROOT}<app_id>{rule}", view_func=view, methods=[method])
    # pusher-http-python leaves /apps/ID out of this one path.
    blueprint.add_url_rule(_TERMINATE_ALIAS, view_func=api.terminate_connections, methods=["POST"])
    return blueprint


_ROOT = "/apps/"
_TERMINATE_ALIAS = "/users/<user_id>/terminate_connections"


class _HttpApi:
    """The views. Success bodies are exact: some SDKs compare them with ``{}``."""

    def __init__(
        self,
        config: Config,
        publisher: Publisher,
        directory: Directory,
        clock: Callable[[], float],
        on_refused: Callable[[str], None],
    ) -> None:
        self._config = config
        self._publisher = publisher
        self._directory = directory
        self._clock = clock
        self._on_refused = on_refused

    def authenticate(self) -> None:
        """
        Let signed requests for our application pass.

        Raises:
            HttpError: Otherwise.
        """
        app_id = (request.view_args or {}).pop("app_id", self._config.app_id)
        if app_id != self._config.app_id:
            raise NotFound(f"there is no application {app_id[:40]!r}")
        signed = SignedRequest(request.method, _signed_paths(), request.args, self._body())
        try:
            check_signature(self._config, signed, self._clock())
        except Unauthorized:
            self._on_refused("unauthorized_request")
            raise

    def trigger(self) -> Response:
        """Publish one event to one or more channels."""
        event = read_trigger(self._body(), self._config)
        self._publisher.trigger_batch([_notification(event)])
        if not event.info:
            return _json({})
        return _json({"channels": {name: self._counts(name, event.info) for name in event.channels}})

    def trigger_batch(self) -> Response:
        """Publish several events; none of them if one of them can't be."""
        events = read_batch(self._body(), self._config)
        self._publisher.trigger_batch([_notification(event) for event in events])
        if not any(event.info for event in events):
            return _json({})
        return _json({"batch": [self._counts(event.channels[0], event.info) for event in events]})

    def channels(self) -> Response:
        """The channels that somebody has joined."""
        prefix = request.args.get("filter_by_prefix", "")
        wanted = read_info(request.args.get("info"), COUNTS)
        if "user_count" in wanted and not parse_channel(prefix).is_presence:
            raise BadRequest("user_count needs filter_by_prefix=presence-: other channels have no users")
        found = self._directory.channels(prefix)
        return _json({"channels": {name: _attributes(name, info, wanted) for name, info in found.items()}})

    def channel(self, channel: str) -> Response:
        """One channel."""
        read_channel_name(channel)
        wanted = read_info(request.args.get("info"), _applicable(channel))
        info = self._directory.channel(channel)
        return _json({"occupied": info.subscription_count > 0, **_attributes(channel, info, wanted)})

    def members(self, channel: str) -> Response:
        """The users of a presence channel."""
        if not parse_channel(read_channel_name(channel)).is_presence:
            raise BadRequest("only presence channels have users")
        return _json({"users": [{"id": member_id} for member_id in self._directory.member_ids(channel)]})

    def users(self) -> Response:
        """A page of the users who are signed in; ours, not Pusher's. ``next`` is the cursor of the next page."""
        user_ids, cursor = self._directory.online_users(request.args.get("cursor"))
        return _json({"users": [{"id": escape_user_id(user_id)} for user_id in user_ids], "next": cursor})

    def user(self, user_id: str) -> Response:
        """Whether a user is signed in anywhere; ours, not Pusher's."""
        connections = self._directory.user(unescape_id(user_id))
        return _json(
            {"id": escape_user_id(unescape_id(user_id)), "online": connections > 0, "connections": connections}
        )

    def terminate_connections(self, user_id: str) -> Response:
        """Close all connections of a user."""
        self._directory.disconnect(unescape_id(user_id))
        return _json({})

    def _body(self) -> bytes:
        limit = self._config.max_body
        # Without a length nobody could tell how much is to come; all SDKs send one.
        if request.headers.get("Transfer-Encoding"):
            raise BadRequest("the request must have a Content-Length")
        if (request.content_length or 0) > limit:
            raise TooLarge(f"the body has {request.content_length} bytes; {limit} are allowed")
        return request.get_data()

    def _counts(self, channel: str, wanted: Collection[str]) -> dict[str, object]:
        return _attributes(channel, self._directory.channel(channel), wanted) if wanted else {}


def _notification(event: Trigger) -> Notification:
    return Notification(event.channels, event.event, event.data, event.exclude)


def _applicable(channel: str) -> set[str]:
    """The attributes that a channel of this kind has."""
    wanted, kind = {"subscription_count"}, parse_channel(channel)
    if kind.is_presence:
        wanted.add("user_count")
    if kind.is_cache:
        wanted.add("cache")
    return wanted


def _attributes(channel: str, info: ChannelInfo, wanted: Collection[str]) -> dict[str, object]:
    """What is wanted of a channel, as far as it applies to its kind."""
    attributes: dict[str, object] = {}
    for name in sorted(_applicable(channel).intersection(wanted)):
        if name == "cache":
            attributes[name] = info.cache and {"data": info.cache.data, "ttl": info.cache.ttl}
        else:
            attributes[name] = getattr(info, name)
    return attributes


def _signed_paths() -> list[str]:
    """
    The paths that the client may have signed, the likeliest first.

    SDKs sign what they think is the path: with or without the prefix under which a proxy or a mount point serves
    us (Reverb #289, #356), and some before and some after percent-encoding.
    """
    path = request.path
    rule = request.url_rule.rule if request.url_rule else path
    mount = max(rule.find(_ROOT), rule.find(_TERMINATE_ALIAS) if _ROOT not in rule else -1, 0)
    forwarded = request.headers.get("X-Forwarded-Prefix", "").rstrip("/")
    raw = str(request.environ.get("RAW_URI") or request.environ.get("REQUEST_URI") or path).partition("?")[0]
    return [path[mount:], path, request.script_root + path, forwarded + path, raw]


def _json(data: object, status: int = 200) -> Response:
    return Response(encode(data), status, mimetype="application/json")


def _error(error: JobPushError) -> Response:
    """Whatever went wrong, as JSON; nothing internal is told."""
    if isinstance(error, HttpError):
        return _json({"error": str(error)}, error.status)
    if isinstance(error, TaskNotFound):
        return _json({"error": str(error)}, 404)
    if isinstance(error, EventError):
        return _json({"error": str(error)}, 400)
    _log.error("A request to the HTTP API failed: %s", error, exc_info=error)
    return _json({"error": "the store does not answer; try again"}, 503 if isinstance(error, StoreError) else 500)
