"""The route of the WebSocket: what is checked before the hub takes a connection over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from flask import Blueprint, Flask, current_app, request
from flask_sock import Sock

from ..config import Config
from ..protocol.actions import Action
from ..protocol.codes import NotAuthorized, PusherError, TlsRequired
from ..protocol.handshake import check_app, check_version, new_socket_id
from ..protocol.server import ServerProtocol, answer
from .extension import GatewayState, current_gateway
from .handover import take_socket
from .hub import Arrival
from .limits import Place
from .websocket import WebSocketConnection

#: What our own client calls itself in the query; others must not get messages that they have not asked for.
OWN_CLIENT = "jobpush"

#: What is answered when there are too many even to be told why; not counted beyond its reason, not logged.
FLOODED = ("", 503, {"Retry-After": "1", "Connection": "close"})

#: Source: Fetch Metadata Request Headers, "Sec-Fetch-Site". Pages cannot write it, and all browsers of today send it.
_FOREIGN = frozenset({"cross-site", "same-site"})


class ForbiddenOrigin(NotAuthorized):
    """The page that a request comes from may not use the session that came with it."""

    code = "forbidden_origin"


_sock = Sock()
websockets = Blueprint("jobpush_websockets", __name__)


@websockets.before_request
def prepare_handshake() -> tuple[str, int, dict[str, str]] | None:
    """See to it that Flask-Sock leaves the connection to us, and the application's own ones alone."""
    if current_gateway().is_flooded():
        return FLOODED
    # permessage-deflate costs 90 KB a connection and half of the throughput, and Flask-Sock would accept it.
    request.environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)
    _spare_reader_threads(current_app)
    return None


@_sock.route("/app/<key>", bp=websockets)  # type: ignore[untyped-decorator]
def connect(server: Any, key: str) -> None:
    """Check what the client says of itself, and give its socket to the hub."""
    state = current_gateway()
    server.connected = False  # Flask-Sock is not to say goodbye
    socket_id = new_socket_id()
    protocol = ServerProtocol(state.settings, socket_id)
    with state.limits.entering(state.client_address()) as place:
        opening = _opening(state, protocol, key, place)
        hub = state.hub
        handover = take_socket(request.environ)
    hub.adopt(Arrival(WebSocketConnection, handover.fd, protocol, opening, on_gone=place.and_then(handover.on_gone)))
    handover.hold()


def _opening(
    state: GatewayState, protocol: ServerProtocol, key: str, place: Place
) -> Callable[[float], Iterable[Action]]:
    try:
        if place.refusal is not None:
            raise place.refusal
        ensure_tls(state.config)
        check_app(state.settings, key)
        check_version(request.args)
        ensure_allowed_origin(state.config)
    except PusherError as exc:
        actions = answer(exc)
        return lambda now: actions
    return partial(
        protocol.open,
        user=state.user(),
        announce_user=request.args.get("client") == OWN_CLIENT,
        since=request.args.get("since"),
    )


def ensure_tls(config: Config) -> None:
    """
    Let the present request pass if it came with TLS, or nobody asks for that.

    A proxy's word is enough: who lies about it harms nobody else.

    Raises:
        TlsRequired: Otherwise.
    """
    is_secure = request.is_secure or request.headers.get("X-Forwarded-Proto", "").lower() == "https"
    if config.tls_only and not is_secure:
        raise TlsRequired


def ensure_allowed_origin(config: Config) -> None:
    """
    Let the present request pass if its page may use the session that came with it.

    Cross-site WebSocket hijacking and CSRF end here: a browser says in ``Origin`` whose script opens a WebSocket or
    posts a form. A client that sends none, nor ``Sec-Fetch-Site``, is no browser: it has no session that somebody else
    could ride.

    Raises:
        ForbiddenOrigin: Otherwise.
    """
    origin = request.headers.get("Origin")
    if "*" in config.allowed_origins:
        return
    if origin is None:
        # What a foreign page can have a browser fetch without one: images, scripts, links. No cure for it to read
        # the answer, which it can't; but a session is not to be used behind its user's back.
        if request.headers.get("Sec-Fetch-Site") in _FOREIGN:
            raise ForbiddenOrigin("a page of another origin has sent this request")
        return
    scheme, host = _normalized(origin)
    # The scheme is left out: behind a proxy that ends TLS we don't know ours. The host's own is allowed beside those
    # that are listed, for some clients that are no browsers (Pysher) name the host they connect to.
    is_own = bool(host) and host == _without_default_port(scheme, request.host.lower())
    is_allowed = is_own or (scheme, host) in map(_normalized, config.allowed_origins)
    if not is_allowed:
        raise ForbiddenOrigin(f"Origin {origin[:100]} is not allowed")


def _normalized(origin: str) -> tuple[str, str]:
    """Scheme and host; ``null``, as sandboxed pages have it, has neither."""
    scheme, _, host = origin.strip().lower().rstrip("/").partition("://")
    return scheme, _without_default_port(scheme, host)


def _without_default_port(scheme: str, host: str) -> str:
    return host.removesuffix({"http": ":80", "https": ":443"}.get(scheme, ""))


class _NoThread:
    """Stands where Flask-Sock would start a thread that reads the socket."""

    name = "jobpush"

    def start(self) -> None:
        """Don't: the hub reads."""


class _ReaderThreads:
    """
    What makes the threads of the application's WebSockets, and none for ours.

    Flask-Sock has its options for all routes of an application together.
    """

    def __init__(self, thread_class: Callable[..., Any] | None) -> None:
        self._thread_class = thread_class or threading.Thread

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _NoThread() if request.blueprint == websockets.name else self._thread_class(*args, **kwargs)


def _spare_reader_threads(app: Flask) -> None:
    options = app.config.get("SOCK_SERVER_OPTIONS") or {}
    if not isinstance(options.get("thread_class"), _ReaderThreads):
        threads = _ReaderThreads(options.get("thread_class"))
        app.config["SOCK_SERVER_OPTIONS"] = {**options, "thread_class": threads}
