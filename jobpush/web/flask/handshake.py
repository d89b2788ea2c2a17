"""The route of the WebSocket: what is checked before the hub takes a connection over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import FunctionType
from typing import Any

import flask_sock
from flask import Blueprint, request
from werkzeug.exceptions import BadRequest, HTTPException
from wsproto.utilities import generate_accept_token

from ...config import Config
from ...gateway.hub import Arrival
from ...gateway.websocket import WebSocketConnection
from ...protocol.actions import Action
from ...protocol.codes import NotAuthorized, PusherError, TlsRequired
from ...protocol.handshake import check_app, check_version, new_socket_id
from ...protocol.server import ServerProtocol, answer
from ..gunicorn.handover import HandedOver, take_socket
from .extension import GatewayState, current_gateway
from .limits import Place

#: What our own client calls itself in the query; others must not get messages that they have not asked for.
OWN_CLIENT = "jobpush"

#: Source: Fetch Metadata Request Headers, "Sec-Fetch-Site". Pages cannot write it, and all browsers of today send it.
_FOREIGN = frozenset({"cross-site", "same-site"})


class ForbiddenOrigin(NotAuthorized):
    """The page that a request comes from may not use the session that came with it."""

    code = "forbidden_origin"


#: Source: RFC 6455, 4.2.1: 16 bytes in base64, and the only version there is.
_KEY_SIZE = 24
_VERSION = "13"

websockets = Blueprint("jobpush_websockets", __name__)


class UnsupportedWebSocket(HTTPException):
    """The client speaks another version of the WebSocket protocol. Source: RFC 6455, 4.4."""

    code = 426
    description = f"The version of the WebSocket protocol must be {_VERSION}."

    def get_headers(self, *args: Any, **kwargs: Any) -> list[tuple[str, str]]:
        return [*super().get_headers(*args, **kwargs), ("Sec-WebSocket-Version", _VERSION)]


class _Upgrade:
    """
    Stands in Flask-Sock's route where a ``simple_websocket.Server`` would, which is of no use to us: the hub reads
    and writes, no extension is wanted (permessage-deflate costs 90 KB a connection and half of the throughput), and
    its handshake, which has h11 read the request again, takes a quarter of the time of a new connection.
    """

    def __init__(self, environ: dict[str, Any], **options: Any) -> None:
        self.environ = environ


class _Done(Exception):
    """The hub has the socket. Goes past Flask-Sock's goodbye, which is not to be said and makes a class each time."""


#: Flask-Sock's own, with our class. It has no option for that, and the application's other routes keep theirs.
_route = FunctionType(
    flask_sock.Sock.route.__code__,
    {**vars(flask_sock), "Server": _Upgrade},
    argdefs=flask_sock.Sock.route.__defaults__,
)


@_route(flask_sock.Sock(), "/app/<key>", bp=websockets)  # type: ignore[untyped-decorator]
def connect(upgrade: _Upgrade, key: str) -> None:
    """Check what the client says of itself, and give its socket to the hub."""
    environ = upgrade.environ
    state = current_gateway()
    head = _switching_head(environ)
    protocol = ServerProtocol(state.settings, new_socket_id())
    with state.enter(environ) as place:
        opening = _opening(state, protocol, key, place)
        hub = state.hub
        handover = take_socket(environ)
    on_gone = place.and_then(handover.on_gone)
    hub.adopt(Arrival(WebSocketConnection, handover.fd, protocol, head, opening, on_gone=on_gone))
    handover.hold()
    raise _Done


@websockets.errorhandler(_Done)
def leave(done: _Done) -> HandedOver:
    """Let the web server go on with its next request."""
    return HandedOver()


def _switching_head(environ: Mapping[str, Any]) -> bytes:
    """
    What accepts the handshake; werkzeug has checked that it is one.

    Raises:
        BadRequest: If it has no key.
        UnsupportedWebSocket: If it is of another version. Source: RFC 6455, 4.2.
    """
    if environ.get("HTTP_SEC_WEBSOCKET_VERSION") != _VERSION:
        raise UnsupportedWebSocket
    key = environ.get("HTTP_SEC_WEBSOCKET_KEY", "")
    if len(key) != _KEY_SIZE or not key.isascii():
        raise BadRequest("The Sec-WebSocket-Key is missing or wrong.")
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n\r\n" % generate_accept_token(key.encode())
    )


def _opening(
    state: GatewayState, protocol: ServerProtocol, key: str, place: Place
) -> Callable[[float], Iterable[Action]]:
    query = request.args.to_dict()  # a plain one: a MultiDict makes an HTTPException for each key that is not there
    try:
        if place.refusal is not None:
            raise place.refusal
        ensure_tls(state.config)
        check_app(state.settings, key)
        check_version(query)
        ensure_allowed_origin(state.config)
    except PusherError as exc:
        actions = answer(exc)
        return lambda now: actions
    return partial(
        protocol.open,
        user=state.user(),
        announce_user=query.get("client") == OWN_CLIENT,
        since=query.get("since"),
    )


def ensure_tls(config: Config) -> None:
    """
    Let the present request pass if it came with TLS, or nobody asks for that.

    A proxy's word is enough: who lies about it harms nobody else.

    Raises:
        TlsRequired: Otherwise.
    """
    if not config.tls_only or request.is_secure:
        return
    if request.environ.get("HTTP_X_FORWARDED_PROTO", "").lower() != "https":
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
    origin = request.environ.get("HTTP_ORIGIN")
    if "*" in config.allowed_origins:
        return
    if origin is None:
        # What a foreign page can have a browser fetch without one: images, scripts, links. No cure for it to read
        # the answer, which it can't; but a session is not to be used behind its user's back.
        if request.environ.get("HTTP_SEC_FETCH_SITE") in _FOREIGN:
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
