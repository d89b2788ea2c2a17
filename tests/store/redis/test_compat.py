"""Contract with redis-py: the private names that compat.py uses exist and behave as it expects."""

from __future__ import annotations

import gc

import redis

from jobpush.store.redis.compat import open_socket


def test_connection_keeps_its_socket_in_a_name_that_can_be_cleared(redis_url: str) -> None:
    pool = redis.ConnectionPool.from_url(redis_url, protocol=2)
    with open_socket(pool) as taken:
        gc.collect()  # a connection that still owned the socket would close it now
        taken.sendall(b"PING\r\n")
        assert taken.recv(100) == b"+PONG\r\n"
