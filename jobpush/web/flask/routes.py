"""What is served below /jobpush/: the two auth endpoints, event streams, tasks, the widget, health."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeAlias

from flask import Blueprint, Flask, Response, jsonify, request

from ...channels import SERVER_TO_USER, parse_channel, unescape_id
from ...errors import JobPushError, StoreError, TaskNotFound
from ...events import encode
from ...gateway.event_stream import EVENT_STREAM_HEAD, EventStreamConnection, read_positions
from ...gateway.hub import Arrival
from ...protocol.actions import Action, UserData
from ...protocol.codes import PusherError
from ...protocol.handshake import new_socket_id
from ...protocol.server import ServerProtocol, answer
from ...store.directory import RedisDirectory
from ..gunicorn.handover import HandedOver, take_socket
from .assets import send_asset
from .authorization import Forbidden, authorize_channel, authorize_user, owns_task
from .extension import GatewayState, current_gateway
from .handshake import ForbiddenOrigin, ensure_allowed_origin, websockets
from .http_api import http_api
from .limits import Place
from .metrics import MetricsRefused, ensure_may_read, respond

#: First actions of a connection, at the time that is given.
Opening: TypeAlias = Callable[[float], Iterable[Action]]

#: Source: what every SDK lets pass.
_SOCKET_ID = re.compile(r"\d+\.\d+", re.ASCII)
#: A header that no form and no link of a foreign page can send.
_OWN_SCRIPT = ("X-Requested-With", "jobpush")

#: Bytes of a form, which has two fields at most.
_MAX_FORM = 16_384
#: Members of a workflow that are sent at once.
_CHILDREN = 100

pages = Blueprint("jobpush", __name__, url_prefix="/jobpush")


def register(app: Flask, state: GatewayState) -> None:
    """Add all routes of the gateway to an application."""
    app.register_blueprint(websockets)
    app.register_blueprint(pages)
    directory = RedisDirectory(state.store)
    app.register_blueprint(http_api(state.config, state.store, directory, on_refused=state.refusals.count))


@pages.before_request
def bound_form() -> None:
    """Whatever somebody sends, no more of it is read than we need."""
    request.max_content_length = _MAX_FORM


# -- errors ----------------------------------------------------------------------------------------------


class BadRequest(JobPushError):
    """A request lacks something."""

    code = "bad_request"


class NotSignedIn(JobPushError):
    """A request needs a user, and its session names none."""

    code = "not_signed_in"

    def __init__(self) -> None:
        super().__init__("nobody is signed in")


@pages.errorhandler(JobPushError)
def refuse(exc: JobPushError) -> tuple[Response, int]:
    """Every refusal has the same form, and none tells what is inside."""
    if isinstance(exc, (BadRequest, Forbidden, ForbiddenOrigin)):
        current_gateway().refusals.count(exc.code)
    match exc:
        case BadRequest():
            return _error(400, exc.code, str(exc))
        case NotSignedIn():
            return _error(401, exc.code, str(exc))
        case Forbidden() | MetricsRefused():
            return _error(403, exc.code, str(exc))
        case ForbiddenOrigin():
            return _error(403, exc.code, exc.message)
        case TaskNotFound():
            return _error(404, exc.code, "there is no such task of yours")
        case StoreError():
            return _error(503, exc.code, "the tasks can't be looked up at the moment; try again")
    raise exc


def _error(status: int, code: str, message: str) -> tuple[Response, int]:
    return jsonify(error={"code": code, "message": message}), status


# -- Pusher's auth endpoints -----------------------------------------------------------------------------


@pages.post("/auth")
def auth() -> Response:
    """Sign a private or presence channel for the page's user."""
    state = current_gateway()
    ensure_allowed_origin(state.config)
    return jsonify(authorize_channel(state, _socket_id(), request.form.get("channel_name", "")))


@pages.post("/user-auth")
def user_auth() -> Response:
    """Sign the page's user in."""
    state = current_gateway()
    ensure_allowed_origin(state.config)
    return jsonify(authorize_user(state, _socket_id()))


def _socket_id() -> str:
    socket_id = request.form.get("socket_id", "")
    if not _SOCKET_ID.fullmatch(socket_id):
        raise BadRequest("socket_id must be the one of your connection")
    return socket_id


# -- event streams ---------------------------------------------------------------------------------------


@pages.get("/events")
def events() -> Response:
    """
    The events of the page's user and of ``channels`` (comma-separated), as server-sent events.

    For browsers whose way to us lets no WebSocket pass: the same messages and rights, one way only.
    """
    state = current_gateway()
    ensure_allowed_origin(state.config)
    with state.enter(request.environ) as place:
        return _open_stream(state, place)


def _open_stream(state: GatewayState, place: Place) -> Response:
    protocol = ServerProtocol(state.settings, new_socket_id())
    opening, requests = _refusing(place.refusal) if place.refusal else _stream_opening(state, protocol)
    hub = state.hub
    handover = take_socket(request.environ)
    on_gone = place.and_then(handover.on_gone)
    hub.adopt(Arrival(EventStreamConnection, handover.fd, protocol, EVENT_STREAM_HEAD, opening, requests, on_gone))
    handover.hold()
    return HandedOver()


def _refusing(error: PusherError) -> tuple[Opening, list[str]]:
    """A stream whose only message says why; the browser comes back by itself, which it does not upon a 503."""
    actions = answer(error)
    return lambda now: actions, []


def _stream_opening(state: GatewayState, protocol: ServerProtocol) -> tuple[Opening, list[str]]:
    user = state.user()
    own = SERVER_TO_USER + user.id if user else ""
    # A stream that comes back says so by itself; one that begins where another ended has only its address for it.
    since = request.headers.get("Last-Event-ID") or request.args.get("since", "")
    positions = read_positions(since) or {own: since}
    names = [name for name in request.args.get("channels", "").split(",") if name and name != own]
    requests = [_subscribe_request(state, protocol.socket_id, name, positions.get(name)) for name in names]
    return partial(protocol.open, user=user, announce_user=True, since=positions.get(own)), requests


def _subscribe_request(state: GatewayState, socket_id: str, channel: str, since: str | None) -> str:
    """What a client with a WebSocket would send, its auth included."""
    data: dict[str, str] = {"channel": channel}
    if since:
        data["since"] = since
    if parse_channel(channel).is_private:
        try:
            data.update(authorize_channel(state, socket_id, channel))
        except Forbidden:
            pass  # the protocol refuses it, in its own words and on that channel
    return encode({"event": "pusher:subscribe", "data": data})


# -- tasks -----------------------------------------------------------------------------------------------


@pages.get("/tasks")
def tasks() -> Response:
    """Snapshots of the page's user's running and recent tasks, newest first."""
    state = current_gateway()
    user = _user(state)
    return jsonify(tasks=[event.to_wire() for event in state.store.tasks(unescape_id(user.id))])


@pages.get("/tasks/<path:task_id>")
def task(task_id: str) -> Response:
    """The snapshot of one of them."""
    state = current_gateway()
    _ensure_own_task(state, task_id)
    return jsonify(state.store.task(task_id).to_wire())


@pages.get("/tasks/<path:task_id>/children")
def children(task_id: str) -> Response:
    """Snapshots of the members of one that is a workflow, ``?start=&limit=``: a page of them, in order."""
    state = current_gateway()
    _ensure_own_task(state, task_id)
    start, limit = request.args.get("start", 0, type=int), request.args.get("limit", _CHILDREN, type=int)
    events = state.store.children(task_id, start=max(0, start), limit=min(max(0, limit), _CHILDREN))
    return jsonify(children=[event.to_wire() for event in events])


@pages.post("/tasks/<path:task_id>/cancel")
def cancel(task_id: str) -> tuple[Response, int]:
    """Ask for the end of one of them. Only our own script can send what this asks for."""
    state = current_gateway()
    ensure_allowed_origin(state.config)
    name, value = _OWN_SCRIPT
    if request.headers.get(name) != value:
        raise Forbidden(f"the header {name}: {value} is missing")
    _ensure_own_task(state, task_id)
    after = state.store.cancel(task_id)
    return jsonify(task_id=task_id, state=after.value, cancelling=not after.is_final), 202


def _user(state: GatewayState) -> UserData:
    """The page's user, if it is a page of ours that asks."""
    ensure_allowed_origin(state.config)
    user = state.user()
    if user is None:
        raise NotSignedIn
    return user


def _ensure_own_task(state: GatewayState, task_id: str) -> None:
    """Another's task is as unknown as one that never was."""
    if not owns_task(state, _user(state), task_id):
        raise TaskNotFound(task_id)


# -- the widget ------------------------------------------------------------------------------------------


@pages.get("/static/<path:filename>", endpoint="static")
def static_file(filename: str) -> Response:
    """Return a built file of the widget."""
    return send_asset(filename)


# -- around it -------------------------------------------------------------------------------------------


@pages.get("/config")
def config() -> Response:
    """What the widget needs where no ``jobpush_tags()`` tells it."""
    return jsonify(key=current_gateway().config.key, path="/app")


@pages.get("/metrics")
def metrics() -> Response:
    """The figures of all processes of this server, for Prometheus."""
    state = current_gateway()
    ensure_may_read(state.config.metrics_token)
    return respond(state.metrics)


@pages.get("/health/live")
def live() -> tuple[Response, int]:
    """This process answers, and its hub serves; if not, only a new one would."""
    if current_gateway().hub.is_alive:
        return jsonify(status="ok"), 200
    return _error(503, "hub_dead", "the gateway's thread has ended, or hangs")


@pages.get("/health/ready")
def ready() -> tuple[Response, int]:
    """This process hears Redis; if not it keeps its browsers, but should get no new ones."""
    hub = current_gateway().hub
    if hub.is_ready:
        return jsonify(status="ok"), 200
    if hub.is_draining:
        return _error(503, "draining", "the gateway is about to end")
    return _error(503, "redis_away", "the gateway has no connection to Redis")
