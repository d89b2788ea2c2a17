"""
The private names of redis-py that jobpush uses. No other file touches one.

They exist in redis-py 5.0 to 8.1; ``pyproject.toml`` excludes the next major version, because there is no public way to
take the socket of a connection.
"""

from __future__ import annotations

import socket
from typing import Any

import redis


def open_socket(pool: redis.ConnectionPool) -> socket.socket:
    """
    Return a connected socket, after TLS, AUTH and SELECT.

    Raises:
        redis.RedisError: If Redis is unreachable or refuses the connection.
    """
    # Not pool.get_connection(): the pool refuses to make more connections than its maximum.
    connection: Any = pool.connection_class(**pool.connection_kwargs)
    connection.connect()
    taken: socket.socket = connection._sock
    connection._sock = None  # otherwise the connection closes the socket when it is deleted
    return taken
