"""Pusher's HTTP API for servers, as a Flask blueprint: publish events, query channels and users, end connections."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from flask import Blueprint, Response, request
from werkzeug.exceptions import BadRequest, HTTPException, NotFound, RequestEntityTooLarge, Unauthorized

from ...channels import escape_user_id, parse_channel, unescape_id
from ...config import Config
from ...errors import EventError, JobPushError, StoreError, TaskNotFound
from ...events import encode
from ...store import Store
from ...store.directory import ChannelInfo, RedisDirectory
from .http_request import (
    COUNTS,
    check_signature,
    read_batch,
    read_channel_name,
    read_info,
    read_trigger,
)

_log = logging.getLogger(__name__)


_ROOT = "/apps/"
_TERMINATE_ALIAS = "/users/<user_id>/terminate_connections"


@dataclass(frozen=True, slots=True)
class HttpApi:
    """
    The views. Success bodies are exact: some SDKs compare them with ``{}``.

    Args:
        config: Credentials and limits.
        store: Publishes the events.
        directory: Channels and users, over all gateways.
        clock: Unix seconds.
        on_refused: Called with the reason, one word, when a request lacks a valid signature.
    """

    config: Config
    store: Store
    directory: RedisDirectory
    clock: Callable[[], float] = time.time
    on_refused: Callable[[str], None] = lambda reason: None

    def blueprint(self) -> Blueprint:
        """Return the blueprint. Register it at the root, below a prefix, or both."""
        blueprint = Blueprint("jobpush_http_api", __name__)
        blueprint.before_request(self.authenticate)  # for every route
        for kind in (BadRequest, Unauthorized, NotFound, RequestEntityTooLarge):  # before the application's handlers
            blueprint.register_error_handler(kind, _refused)
        blueprint.register_error_handler(JobPushError, _error)
        for method, rule, view in (
            ("POST", "/events", self.trigger),
            ("POST", "/batch_events", self.trigger_batch),
            ("GET", "/channels", self.channels),
            ("GET", "/channels/<channel>", self.channel),
            ("GET", "/channels/<channel>/users", self.members),
            ("GET", "/users", self.users),
            ("GET", "/users/<user_id>", self.user),
            ("POST", "/users/<user_id>/terminate_connections", self.terminate_connections),
        ):
            blueprint.add_url_rule(f"{_ROOT}<app_id>{rule}", view_func=view, methods=[method])
        # pusher-http-python leaves /apps/ID out of this one path.
        blueprint.add_url_rule(_TERMINATE_ALIAS, view_func=self.terminate_connections, methods=["POST"])
        return blueprint

    def authenticate(self) -> None:
        """
        Accept the current request if it is signed for our application.

        Raises:
            HTTPException: Otherwise.
        """
        app_id = (request.view_args or {}).pop("app_id", self.config.app_id)
        if app_id != self.config.app_id:
            raise NotFound(f"there is no application {app_id[:40]!r}")
        try:
            check_signature(self.config, self.clock(), request.method, _signed_paths(), request.args, self._body)
        except Unauthorized:
            self.on_refused("unauthorized_request")
            raise

    def trigger(self) -> Response:
        """Publish one event to one or more channels."""
        event, info = read_trigger(self._body(), self.config)
        self.store.trigger_batch([event])
        return _json({"channels": {name: self._counts(name, info) for name in event.channels}} if info else {})

    def trigger_batch(self) -> Response:
        """Publish several events: all, or none if one is invalid."""
        events = read_batch(self._body(), self.config)
        self.store.trigger_batch([event for event, _ in events])
        if not any(info for _, info in events):
            return _json({})
        return _json({"batch": [self._counts(name, info) for event, info in events for name in event.channels]})

    def channels(self) -> Response:
        """List the channels with subscribers."""
        prefix = request.args.get("filter_by_prefix", "")
        wanted = read_info(request.args.get("info"), COUNTS)
        if "user_count" in wanted and not parse_channel(prefix).is_presence:
            raise BadRequest("user_count needs filter_by_prefix=presence-: other channels have no users")
        found = self.directory.channels(prefix)
        return _json({"channels": {name: _attributes(name, info, wanted) for name, info in found.items()}})

    def channel(self, channel: str) -> Response:
        """Describe one channel."""
        read_channel_name(channel)
        wanted = read_info(request.args.get("info"), _applicable(channel))
        info = self.directory.channel(channel)
        return _json({"occupied": info.subscription_count > 0, **_attributes(channel, info, wanted)})

    def members(self, channel: str) -> Response:
        """List the users of a presence channel."""
        if not parse_channel(read_channel_name(channel)).is_presence:
            raise BadRequest("only presence channels have users")
        return _json({"users": [{"id": member_id} for member_id in self.directory.member_ids(channel)]})

    def users(self) -> Response:
        """List a page of the signed-in users; ``next`` is the cursor of the next page. Not part of Pusher's API."""
        user_ids, cursor = self.directory.online_users(request.args.get("cursor"))
        return _json({"users": [{"id": escape_user_id(user_id)} for user_id in user_ids], "next": cursor})

    def user(self, user_id: str) -> Response:
        """Describe whether a user is signed in on any gateway. Not part of Pusher's API."""
        connections = self.directory.user(unescape_id(user_id))
        return _json(
            {"id": escape_user_id(unescape_id(user_id)), "online": connections > 0, "connections": connections}
        )

    def terminate_connections(self, user_id: str) -> Response:
        """Close all connections of a user."""
        self.directory.disconnect(unescape_id(user_id))
        return _json({})

    def _body(self) -> bytes:
        limit = self.config.max_body
        # Without a length the size is unknown in advance; all SDKs send one.
        if request.headers.get("Transfer-Encoding"):
            raise BadRequest("the request must have a Content-Length")
        if (request.content_length or 0) > limit:
            raise RequestEntityTooLarge(f"the body has {request.content_length} bytes; {limit} are allowed")
        return request.get_data()

    def _counts(self, channel: str, wanted: Collection[str]) -> dict[str, object]:
        return _attributes(channel, self.directory.channel(channel), wanted) if wanted else {}


def _applicable(channel: str) -> set[str]:
    """Return the attributes that a channel of this kind has."""
    wanted, kind = {"subscription_count"}, parse_channel(channel)
    if kind.is_presence:
        wanted.add("user_count")
    if kind.is_cache:
        wanted.add("cache")
    return wanted


def _attributes(channel: str, info: ChannelInfo, wanted: Collection[str]) -> dict[str, object]:
    """Return the wanted attributes of a channel that apply to its kind."""
    attributes: dict[str, object] = {}
    for name in sorted(_applicable(channel).intersection(wanted)):
        if name == "cache":
            attributes[name] = info.cache and {"data": info.cache.data, "ttl": info.cache.ttl}
        else:
            attributes[name] = getattr(info, name)
    return attributes


def _signed_paths() -> list[str]:
    """
    Return the paths that the client may have signed, the likeliest first.

    SDKs differ: they sign the path with or without the prefix of a proxy or a mount point (Reverb #289, #356), before
    or after percent-encoding.
    """
    path = request.path
    rule = request.url_rule.rule if request.url_rule else path
    mount = max(rule.find(_ROOT), rule.find(_TERMINATE_ALIAS) if _ROOT not in rule else -1, 0)
    forwarded = request.headers.get("X-Forwarded-Prefix", "").rstrip("/")
    raw = str(request.environ.get("RAW_URI") or request.environ.get("REQUEST_URI") or path).partition("?")[0]
    return [path[mount:], path, request.script_root + path, forwarded + path, raw]


def _json(data: object, status: int = 200) -> Response:
    return Response(encode(data), status, mimetype="application/json")


def _refused(error: HTTPException) -> Response:
    return _json({"error": error.description}, error.code or 400)


def _error(error: JobPushError) -> Response:
    """Return an error as JSON, without internal details."""
    if isinstance(error, TaskNotFound):
        return _json({"error": str(error)}, 404)
    if isinstance(error, EventError):
        return _json({"error": str(error)}, 400)
    _log.error("A request to the HTTP API failed: %s", error, exc_info=error)
    return _json({"error": "Redis does not answer; try again"}, 503 if isinstance(error, StoreError) else 500)
