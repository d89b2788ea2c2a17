"""The routes below /jobpush/: the two auth endpoints, event streams, tasks, the widget, health."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache, partial
from typing import Any

from flask import Blueprint, Flask, Response, g, jsonify, request
from flask_cors import CORS

from ...channels import SERVER_TO_USER, parse_channel, unescape_id
from ...errors import JobPushError, StoreError, TaskNotFound
from ...events import encode
from ...gateway.connections import Opening
from ...gateway.event_stream import EventStreamConnection, event_stream_head, read_positions
from ...protocol.actions import UserData
from ...protocol.codes import PusherError
from ...protocol.handshake import new_socket_id
from ...protocol.server import ServerProtocol, answer
from ...tokens import TokenError
from ..gunicorn.handover import hand_over
from .assets import send_asset
from .auth.channel_access import authorize_channel, authorize_user, owns_task
from .auth.request_user import current_user
from .handshake import websockets
from .http_api import HttpApi
from .limits import Place
from .origins import ForbiddenOrigin
from .prometheus import MetricsRefused, ensure_may_read
from .refusals import BadRequest, Forbidden, NotSignedIn, Refusal, RerunFailed, RerunRefused
from .state import GatewayState, current_gateway

logger = logging.getLogger("jobpush.gateway")

#: Source: every SDK checks for this form.
_SOCKET_ID = re.compile(r"\d+\.\d+", re.ASCII)
#: A header that forms and links of foreign pages cannot send.
_OWN_SCRIPT = ("X-Requested-With", "jobpush")

#: Bytes of a form; it has at most two fields.
_MAX_FORM = 16_384
#: The routes that pages of allowed origins may use: not the metrics, and not the HTTP API for servers.
_CORS_ROUTES = r"/jobpush/(?!metrics).*"
#: Entries that a page leaves out at most: Redis refuses a number of more than 64 bits.
_MAX_START = 1_000_000_000
#: Lines of a log in one page.
_LOG_LINES = 1_000
#: Notifications in one page.
_MAX_INBOX_ITEMS = 200
#: Members of a workflow in one page.
_CHILDREN = 100

pages = Blueprint("jobpush", __name__, url_prefix="/jobpush")
#: Names of all blueprints of jobpush.
_BLUEPRINTS = ("jobpush", "jobpush_websockets", "jobpush_http_api")


def register(app: Flask, state: GatewayState) -> None:
    """Add all routes of the gateway to an application."""
    app.register_blueprint(websockets)
    app.register_blueprint(pages)
    api = HttpApi(state.config, state.store, state.directory, on_refused=state.refusals.count)
    app.register_blueprint(api.blueprint())
    exempt_once = cache(lambda: _exempt_from_csrf(app))

    @app.url_value_preprocessor  # earlier than before_request, in which the protections check
    def prepare(endpoint: str | None, values: dict[str, Any] | None) -> None:
        exempt_once()
        state.start_with_server(request.environ)

    if origins := state.origins.cors:
        is_any = origins == "*"
        CORS(
            app,
            resources=_CORS_ROUTES,
            origins=origins,
            send_wildcard=is_any,
            supports_credentials=not is_any,
            max_age=600,
        )


def _exempt_from_csrf(app: Flask) -> None:
    """
    Exempt the routes from Flask-WTF and SeaSurf: they check origin, header or signature themselves.

    SeaSurf is found by its hook, since it does not register itself as an extension.
    """
    hooks = (getattr(hook, "__self__", None) for hook in app.before_request_funcs.get(None, ()))
    sea_surf = next((hook for hook in hooks if type(hook).__name__ == "SeaSurf"), None)
    protections = [one for one in (app.extensions.get("csrf"), sea_surf) if one is not None]
    for endpoint, view in app.view_functions.items() if protections else ():
        blueprint, dot, _ = endpoint.partition(".")
        if dot and blueprint in _BLUEPRINTS:
            for protection in protections:
                protection.exempt(view)


@pages.before_request
def bound_form() -> None:
    """Limit the size of a request body."""
    request.max_content_length = _MAX_FORM


@pages.before_request
def log_foreign_origin() -> None:
    """Log why a page of another origin can't read the response: its browser hides the reason from it."""
    state = current_gateway()
    try:
        if "HTTP_ORIGIN" in request.environ:
            state.origins.ensure_allowed()
    except ForbiddenOrigin as exc:
        state.log_refusal(exc)


@pages.after_request
def vary(response: Response) -> Response:
    """Keep caches from serving an answer without CORS headers to a page of another origin."""
    if current_gateway().origins.varies:
        response.vary.add("Origin")
    return response


# -- errors ----------------------------------------------------------------------------------------------


@pages.errorhandler(JobPushError)
@websockets.errorhandler(JobPushError)
def refuse(exc: JobPushError) -> tuple[Response, int]:
    """Return a refusal as JSON, without internal details."""
    state = current_gateway()
    if isinstance(exc, (BadRequest, Forbidden, ForbiddenOrigin)):
        state.refusals.count(exc.code)
    match exc:
        case Refusal():
            state.log_refusal(exc)
            return _error(exc.status, exc.code, str(exc))
        case ForbiddenOrigin():
            state.log_refusal(exc)
            return _error(403, exc.code, exc.message)
        case TokenError():
            state.log_refusal(exc)
            return _error(401, exc.code, str(exc))
        case MetricsRefused():
            return _error(403, exc.code, str(exc))
        case TaskNotFound():
            return _error(404, exc.code, "there is no such task of yours")
        case StoreError():
            return _error(503, "redis_away", "Redis does not answer; try again")
    raise exc


def _error(status: int, code: str, message: str) -> tuple[Response, int]:
    return jsonify(error={"code": code, "message": message}), status


# -- Pusher's auth endpoints -----------------------------------------------------------------------------


@pages.post("/auth")
def auth() -> Response:
    """Sign a private or presence channel for the request's user."""
    state = current_gateway()
    state.origins.ensure_allowed()
    return jsonify(authorize_channel(state, _socket_id(), _field("channel_name")))


@pages.post("/user-auth")
def user_auth() -> Response:
    """Sign the request's user."""
    state = current_gateway()
    state.origins.ensure_allowed()
    return jsonify(authorize_user(state, _socket_id()))


def _socket_id() -> str:
    socket_id = _field("socket_id")
    if not _SOCKET_ID.fullmatch(socket_id):
        raise BadRequest("socket_id must be the one of your connection")
    return socket_id


def _field(name: str) -> str:
    """Return a field of the body: a form, or JSON as some authorizers send it, of any content type."""
    fields = request.form or request.get_json(force=True, silent=True)
    value = fields.get(name, "") if isinstance(fields, Mapping) else ""
    return value if isinstance(value, str) else ""


# -- event streams ---------------------------------------------------------------------------------------


@pages.get("/events")
def events() -> Response:
    """
    Stream the events of the request's user and of ``channels`` (comma-separated) as server-sent events.

    For browsers behind a proxy that blocks WebSockets: the same messages and rights, one way only.
    """
    state = current_gateway()
    state.origins.ensure_allowed()
    state.ensure_sockets(request.environ)
    with state.enter(request.environ) as place:
        return _open_stream(state, place)


def _open_stream(state: GatewayState, place: Place) -> Response:
    protocol = ServerProtocol(state.config, new_socket_id())
    opening, requests = _refusing(place.refusal) if place.refusal else _stream_opening(state, protocol)
    hub = state.hub
    head = event_stream_head(state.origins.cors_headers())  # the hub writes the head, so flask-cors cannot add headers
    return hand_over(
        request.environ,
        lambda fd: hub.adopt(EventStreamConnection(hub, fd, protocol, on_gone=place), head, opening, requests),
    )


def _refusing(error: PusherError) -> tuple[Opening, list[str]]:
    """Open a stream with the error as its only message. Browsers reconnect after it, but not after a 503."""
    actions = answer(error)
    return lambda now: actions, []


def _stream_opening(state: GatewayState, protocol: ServerProtocol) -> tuple[Opening, list[str]]:
    user = current_user(state)
    own = SERVER_TO_USER + user.id if user else ""
    # A browser that reconnects a stream sends Last-Event-ID. A new stream that continues another has only its query.
    since = request.headers.get("Last-Event-ID") or request.args.get("since", "")
    positions = read_positions(since) or {own: since}
    names = [name for name in request.args.get("channels", "").split(",") if name and name != own]
    requests = [_subscribe_request(state, protocol.socket_id, name, positions.get(name)) for name in names]
    if "jobpush_token" in g:  # the hub then ends the token's rights in time
        _, _, token = request.headers["Authorization"].partition(" ")
        requests.insert(0, encode({"event": "jobpush:signin", "data": {"token": token.strip()}}))
        user = None
    return partial(protocol.open, user=user, announce_user=True, since=positions.get(own), time=time.time()), requests


def _subscribe_request(state: GatewayState, socket_id: str, channel: str, since: str | None) -> str:
    """Return the message that a WebSocket client would send, with its auth."""
    data: dict[str, str] = {"channel": channel}
    if since:
        data["since"] = since
    if parse_channel(channel).is_private:
        try:
            data.update(authorize_channel(state, socket_id, channel))
        except Forbidden:
            pass  # the protocol sends the error on that channel
    return encode({"event": "pusher:subscribe", "data": data})


# -- tasks -----------------------------------------------------------------------------------------------


@pages.get("/tasks")
def tasks() -> Response:
    """Return a page (``?start=&limit=``) of snapshots of the user's tasks, running ones first, and the time."""
    state = current_gateway()
    user = _user(state)
    start, limit = _page(state.config.tasks_per_page)
    events = state.store.tasks(unescape_id(user.id), start=start, limit=limit)
    return jsonify(tasks=[event.to_wire() for event in events], time=time.time())


@pages.get("/tasks/<path:task_id>")
def task(task_id: str) -> Response:
    """Return the snapshot of one task."""
    state = current_gateway()
    _ensure_own_task(state, task_id)
    return jsonify(state.store.task(task_id).to_wire())


@pages.get("/tasks/<path:task_id>/children")
def children(task_id: str) -> Response:
    """Return a page (``?start=&limit=``) of snapshots of a workflow's members, in order."""
    state = current_gateway()
    _ensure_own_task(state, task_id)
    start, limit = _page(_CHILDREN)
    events = state.store.children(task_id, start=start, limit=limit)
    return jsonify(children=[event.to_wire() for event in events])


@pages.get("/tasks/<path:task_id>/log")
def log(task_id: str) -> Response:
    """Return a page of a task's log, in order: the lines after ``?since=`` (the id of a line)."""
    state = current_gateway()
    _ensure_own_task(state, task_id)
    _, limit = _page(_LOG_LINES)
    try:
        part = state.store.task_log(task_id, since=request.args.get("since", ""), limit=max(1, limit))
    except ValueError:
        raise BadRequest("since must be the id of a line") from None
    return jsonify(lines=[asdict(entry) for entry in part.entries], lost=part.dropped, has_gap=part.has_gap)


def _page(most: int) -> tuple[int, int]:
    """Return ``start`` and ``limit`` of the query."""
    start, limit = request.args.get("start", 0, type=int), request.args.get("limit", most, type=int)
    return min(max(0, start), _MAX_START), min(max(0, limit), most)


@pages.post("/tasks/<path:task_id>/cancel")
def cancel(task_id: str) -> tuple[Response, int]:
    """Cancel a task. The required header proves that a script of an allowed origin sent the request."""
    state = current_gateway()
    _ensure_own_script(state)
    _ensure_own_task(state, task_id)
    after = state.store.cancel(task_id)
    return jsonify(task_id=task_id, state=after.value, cancelling=not after.is_final), 202


@pages.post("/tasks/<path:task_id>/rerun")
def rerun(task_id: str) -> tuple[Response, int]:
    """Run an ended task again with the application's ``on_rerun``."""
    state = current_gateway()
    _ensure_own_script(state)
    _ensure_own_task(state, task_id)
    function, event = state.callbacks.on_rerun, state.store.task(task_id)
    if function is None:
        raise RerunRefused("the application lets no task run again: it has no gateway.on_rerun")
    if not event.state.is_final:
        raise RerunRefused("the task has not ended")
    try:
        accepted = function(task_id, event.name, unescape_id(_user(state).id))
    except Exception:
        logger.exception("on_rerun failed for task %s", task_id)
        raise RerunFailed("the application failed to run the task again") from None
    if accepted is False:
        raise RerunRefused("the application does not let this task run again")
    return jsonify(task_id=task_id), 202


def _ensure_own_script(state: GatewayState) -> None:
    state.origins.ensure_allowed()
    name, value = _OWN_SCRIPT
    if request.headers.get(name) != value:
        raise Forbidden(f"the header {name}: {value} is missing")


def _user(state: GatewayState) -> UserData:
    """Return the request's user, if its origin is allowed."""
    state.origins.ensure_allowed()
    user = current_user(state)
    if user is None:
        raise NotSignedIn(has_loader=state.callbacks.user_loader is not None, has_failed="jobpush_loader_failed" in g)
    return user


def _ensure_own_task(state: GatewayState, task_id: str) -> None:
    """Raise the same error for another user's task as for an unknown one."""
    if not owns_task(state, _user(state), task_id):
        raise TaskNotFound(task_id)


# -- the widget ------------------------------------------------------------------------------------------


@pages.get("/static/<path:filename>", endpoint="static")
def static_file(filename: str) -> Response:
    """Return a built file of the widget."""
    return send_asset(filename)


# -- the inbox -------------------------------------------------------------------------------------------


@pages.get("/inbox")
def inbox() -> Response:
    """Return a page (``?start=&limit=``) of the user's kept notifications, newest first, and the counts of all."""
    state = current_gateway()
    user = _user(state)
    start, limit = _page(_MAX_INBOX_ITEMS)
    kept = state.store.inbox(unescape_id(user.id))
    unseen, unread = sum(not item.seen for item in kept), sum(not item.read for item in kept)
    return jsonify(items=[asdict(item) for item in kept[start : start + limit]], unseen=unseen, unread=unread)


@pages.post("/inbox/read")
def read_inbox() -> Response:
    """Mark notifications: ``state`` is seen or read, ``ids`` are separated by commas; all without ``ids``."""
    state = current_gateway()
    _ensure_own_script(state)
    user = _user(state)
    mark = _field("state") or "read"
    if mark not in ("seen", "read"):
        raise BadRequest("state must be seen or read")
    return jsonify(changed=state.store.mark_inbox(unescape_id(user.id), mark, _ids()))


def _ids() -> list[str] | None:
    """Return the ids of the body, as text or a JSON list; ``None`` if it has none, which stands for all."""
    fields = request.get_json(silent=True) if request.is_json else request.form
    if isinstance(fields, Mapping) and "ids" not in fields:
        return None
    ids = fields["ids"] if isinstance(fields, Mapping) else None
    if isinstance(ids, list) and all(isinstance(one, str) for one in ids):
        return ids
    if not isinstance(ids, str):
        raise BadRequest("ids must be text, separated by commas")
    return ids.split(",")


# -- configuration and health ------------------------------------------------------------------------


@pages.get("/config")
def config() -> Response:
    """Return the settings of the widget, for pages without ``jobpush_tags()``."""
    return jsonify(key=current_gateway().config.key, path="/app")


@pages.get("/metrics")
def metrics() -> Response:
    """Return the metrics of all processes of this server, for Prometheus."""
    state = current_gateway()
    ensure_may_read(state.config.metrics_token)
    return state.metrics.response()


@pages.get("/health/live")
def live() -> tuple[Response, int]:
    """Report whether this process and its hub work; if not, it must be replaced."""
    state = current_gateway()
    if not state.has_real_threads or state.hub.is_alive:
        return jsonify(status="ok"), 200
    return _error(503, "hub_dead", "the gateway's thread has ended, or hangs")


@pages.get("/health/ready")
def ready() -> tuple[Response, int]:
    """Report whether this process receives events from Redis; if not, it should get no new connections."""
    state = current_gateway()
    if not state.has_real_threads:
        return jsonify(status="polling_only"), 200
    hub = state.settled_hub()
    if hub.is_ready:
        return jsonify(status="ok"), 200
    if hub.is_draining:
        return _error(503, "draining", "the gateway is shutting down")
    return _error(503, "redis_away", "the gateway has no connection to Redis")
