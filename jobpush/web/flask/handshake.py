"""The WebSocket route: checks a handshake, then gives its socket to the hub."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flask_sock
from flask import Blueprint, Response, request
from werkzeug.exceptions import BadRequest, HTTPException

from ...errors import StoreError
from ...gateway.connections import Opening
from ...gateway.websocket import WebSocketConnection
from ...protocol.codes import NotAuthorized, PusherError
from ...protocol.handshake import check_app, check_version, new_socket_id
from ...protocol.server import ServerProtocol, answer
from ...tokens import TokenError
from ..gunicorn.handover import hand_over
from .auth.request_user import current_user
from .limits import Place
from .origins import ensure_tls
from .state import GatewayState, current_gateway

#: Value of ``client`` in the query of our own client. Other clients must get no unrequested messages.
OWN_CLIENT = "jobpush"

#: Source: RFC 6455, 4.2.1: 16 bytes in base64, and the only version.
_KEY_SIZE = 24
_VERSION = "13"
#: Source: RFC 6455, 1.3.
_ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

websockets = Blueprint("jobpush_websockets", __name__)


class HubSock(flask_sock.Sock):  # type: ignore[misc]  # it has no types
    """
    Flask-Sock without a ``simple_websocket.Server``: the view returns the response itself.

    The hub reads and writes the socket, permessage-deflate is unwanted (90 KB a connection and half the throughput),
    and simple-websocket's handshake, which has h11 parse the request again, costs a quarter of a new connection.
    """

    def route(self, path: str, bp: Blueprint, **options: Any) -> Callable[..., Any]:
        """Register a view for WebSocket handshakes."""
        return bp.route(path, websocket=True, **options)


class UnsupportedWebSocket(HTTPException):
    """The client uses another version of the WebSocket protocol. Source: RFC 6455, 4.4."""

    code = 426
    description = f"The version of the WebSocket protocol must be {_VERSION}."

    def get_headers(self, *args: Any, **kwargs: Any) -> list[tuple[str, str]]:
        return [*super().get_headers(*args, **kwargs), ("Sec-WebSocket-Version", _VERSION)]


@HubSock().route("/app/<key>", bp=websockets)
def connect(key: str) -> Response:
    """Check a handshake and give its socket to the hub."""
    environ = request.environ
    state = current_gateway()
    state.ensure_sockets(environ)
    head = _switching_head(environ)
    protocol = ServerProtocol(state.config, new_socket_id())
    with state.enter(environ) as place:
        opening = _opening(state, protocol, key, place)
        hub = state.hub
        return hand_over(
            environ,
            lambda fd: hub.adopt(WebSocketConnection(hub, fd, protocol, on_gone=place), head, opening),
        )


def _switching_head(environ: Mapping[str, Any]) -> bytes:
    """
    Return the head that accepts the handshake. werkzeug has checked the headers Connection and Upgrade.

    Raises:
        BadRequest: If the key is missing or malformed.
        UnsupportedWebSocket: If the version is not 13. Source: RFC 6455, 4.2.
    """
    if environ.get("HTTP_SEC_WEBSOCKET_VERSION") != _VERSION:
        raise UnsupportedWebSocket
    key = environ.get("HTTP_SEC_WEBSOCKET_KEY", "")
    if len(key) != _KEY_SIZE or not key.isascii():
        raise BadRequest("The Sec-WebSocket-Key is missing or wrong.")
    digest = hashlib.sha1(key.encode() + _ACCEPT_GUID, usedforsecurity=False).digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n\r\n" % base64.b64encode(digest)
    )


def _opening(state: GatewayState, protocol: ServerProtocol, key: str, place: Place) -> Opening:
    query = request.args.to_dict()  # a MultiDict builds an HTTPException for each missing key
    try:
        if place.refusal is not None:
            raise place.refusal
        ensure_tls(state.config)
        check_app(state.config, key)
        check_version(query)
        state.origins.ensure_allowed()
        user = current_user(state)
    except (PusherError, TokenError, StoreError) as exc:
        error = exc if isinstance(exc, PusherError) else NotAuthorized(str(exc))
        state.log_refusal(error)
        actions = answer(error)
        return lambda now: actions
    is_own_client = query.get("client") == OWN_CLIENT
    return partial(
        protocol.open,
        user=user,
        announce_user=is_own_client,
        since=query.get("since"),
        time=time.time() if is_own_client else None,
    )
