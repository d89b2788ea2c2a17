"""
One POST to a checked address, with a total deadline that the server cannot extend.

h11 writes the request and reads the response. The socket is ours, and connects to the checked address. Proxies are not
used, redirects are not followed, and only the head of the response is read, at most 16 KB.
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

#: Bytes of one read.
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
    Send one request and return the status of its response.

    Args:
        endpoint: The receiver.
        headers: Further headers; Host, Content-Length and Authorization are added here.
        body: The body.
        connect_timeout: Seconds to connect, for all addresses of the host together.
        timeout: Seconds for everything but the DNS lookup.
        allow_private: Whether the address may be private.

    Returns:
        The HTTP status.

    Raises:
        ForbiddenAddress: If the host is not public, and private ones are not allowed.
        OSError: If there is no connection, its certificate is not trusted, or there is no response in time.
        h11.ProtocolError: If the response is not HTTP.
    """
    addresses = resolve(endpoint.host, endpoint.port, allow_private=allow_private)
    deadline = time.monotonic() + timeout
    with _connect(addresses, min(connect_timeout, timeout)) as plain:
        plain.settimeout(_left(deadline))
        # A certificate must be valid for the name.
        secured = default_trust().wrap_socket(plain, server_hostname=endpoint.host) if endpoint.is_secure else plain
        with secured as connection:
            return _exchange(connection, _request(endpoint, headers, len(body)), body, deadline)


def _connect(addresses: Sequence[Address], timeout: float) -> socket.socket:
    """Connect to the first address that accepts; each gets an equal share of the time."""
    failure: OSError | None = None
    for family, sockaddr in addresses:
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.settimeout(timeout / len(addresses))
        try:
            connection.connect(sockaddr)
        except OSError as exc:
            connection.close()
            failure = exc
        else:
            return connection
    raise failure or OSError("the name has no address")


@cache
def default_trust() -> ssl.SSLContext:
    """Return the system's certificates; cached, because reading them takes about 20 ms."""
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
                raise ConnectionError("the connection was closed without a response")
            http.receive_data(data)


def _left(deadline: float) -> float:
    """Return the seconds until the deadline: a socket timeout would restart with each byte."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left
