"""
One POST to an address that was checked before, within a time that the other side can't stretch.

h11 writes the request and reads the answer; the socket is ours, so that the address is. Proxies are not used,
redirects not followed, and of the answer nothing is read but its head, of 16 KB at most.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Sequence
from functools import cache

import h11

from .addresses import Address, resolve
from .endpoints import Endpoint

#: Bytes taken from the socket at once.
_CHUNK = 4096


def post(
    endpoint: Endpoint,
    headers: Sequence[tuple[str, str]],
    body: bytes,
    *,
    connect_timeout: float,
    timeout: float,
    allow_private: bool,
) -> int:
    """
    Send one request and read the status of its answer.

    Args:
        endpoint: Where to.
        headers: More of them; Host, Content-Length and what the URL asks for are added here.
        body: As it is.
        connect_timeout: Seconds for the connection, to all addresses of the host together.
        timeout: Seconds for everything but the look-up of the name.
        allow_private: Whether an address that is not public may be called.

    Returns:
        The HTTP status.

    Raises:
        ForbiddenAddress: If the host is not public, and private ones are not allowed.
        OSError: If there is no connection, no trust in its certificate, or no answer in time.
        h11.ProtocolError: If the answer is no HTTP.
    """
    addresses = resolve(endpoint.host, endpoint.port, allow_private=allow_private)
    deadline = time.monotonic() + timeout
    with _connect(addresses, min(connect_timeout, timeout)) as plain:
        plain.settimeout(_left(deadline))
        with _secured(plain, endpoint) as connection:
            return _exchange(connection, _request(endpoint, headers, len(body)), body, deadline)


def _connect(addresses: Sequence[Address], timeout: float) -> socket.socket:
    """Connect to the first address that answers; each gets its share of the time, so that none takes it all."""
    failure: OSError | None = None
    for address in addresses:
        connection = socket.socket(address.family, socket.SOCK_STREAM)
        connection.settimeout(timeout / len(addresses))
        try:
            connection.connect(address.sockaddr)
        except OSError as exc:
            connection.close()
            failure = exc
        else:
            return connection
    raise failure or OSError("the name has no address")


def _secured(plain: socket.socket, endpoint: Endpoint) -> socket.socket:
    """The TLS connection on top, whose certificate must be for the name; the socket itself for plain http."""
    return default_trust().wrap_socket(plain, server_hostname=endpoint.host) if endpoint.is_secure else plain


@cache
def default_trust() -> ssl.SSLContext:
    """The system's certificates; kept, for reading them takes some 20 ms."""
    return ssl.create_default_context()


def _request(endpoint: Endpoint, headers: Sequence[tuple[str, str]], length: int) -> h11.Request:
    given = [("Host", endpoint.authority), ("Content-Length", str(length)), ("Connection", "close"), *headers]
    if endpoint.authorization:
        given.append(("Authorization", endpoint.authorization))
    return h11.Request(method="POST", target=endpoint.target, headers=given)


def _exchange(connection: socket.socket, request: h11.Request, body: bytes, deadline: float) -> int:
    http = h11.Connection(h11.CLIENT)
    parts = [http.send(request), http.send(h11.Data(data=body)), http.send(h11.EndOfMessage())]
    connection.settimeout(_left(deadline))
    connection.sendall(b"".join(part or b"" for part in parts))
    while True:
        event = http.next_event()
        if isinstance(event, h11.Response):
            return event.status_code
        if event is h11.NEED_DATA:
            connection.settimeout(_left(deadline))
            data = connection.recv(_CHUNK)
            if not data:
                raise ConnectionError("connection closed without an answer")
            http.receive_data(data)


def _left(deadline: float) -> float:
    """Seconds up to the deadline; a socket's own timeout would begin anew with each byte."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left
