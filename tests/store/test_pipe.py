"""Commands in one round trip, on a real Redis."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from jobpush.cli.embedded import EmbeddedRedis
from jobpush.store.redis.pipeline import Pipe


@pytest.fixture
def pipe(client: redis.Redis) -> Iterator[Pipe]:
    pipe = Pipe(client)
    yield pipe
    pipe.close()


def test_replies_are_those_of_redis_py_in_the_order_of_the_commands(pipe: Pipe) -> None:
    replies = pipe.ask([("SET", "a", 1), ("HSET", "h", "x", "y"), ("HGETALL", "h"), ("GET", "a"), ("GET", "none")])

    assert replies == [True, 1, {b"x": b"y"}, b"1", None]


def test_what_redis_refuses_is_one_reply_among_others(pipe: Pipe) -> None:
    refused, answered = pipe.ask([("HGETALL", "a", "b"), ("PING",)])

    assert isinstance(refused, redis.ResponseError)
    assert answered


def test_large_commands_and_replies_come_in_parts(pipe: Pipe) -> None:
    text = b"x" * 1_000_000

    assert pipe.ask([("SET", "large", text), ("GET", "large")])[1] == text


def test_connection_that_redis_has_closed_is_made_again(pipe: Pipe, client: redis.Redis) -> None:
    pipe.ask([("PING",)])
    client.client_kill_filter(_type="normal", skipme=True)

    assert pipe.ask([("GET", "none")]) == [None]


def test_redis_that_is_gone_is_an_error_and_no_more_once_it_is_back(pipe: Pipe, redis_server: EmbeddedRedis) -> None:
    pipe.ask([("PING",)])
    redis_server.kill()

    with pytest.raises(redis.ConnectionError):
        pipe.ask([("GET", "none")])

    redis_server.start()
    assert pipe.ask([("GET", "none")]) == [None]


def test_threads_have_a_connection_each(pipe: Pipe) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda number: pipe.ask([("ECHO", number)] * 20), range(200)))

    assert answers == [[str(number).encode()] * 20 for number in range(200)]


def test_child_of_a_fork_has_connections_of_its_own(pipe: Pipe) -> None:
    (ours,) = pipe.ask([("CLIENT", "ID")])

    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, str(pipe.ask([("CLIENT", "ID")])[0]).encode())
        finally:
            os._exit(0)  # or an error would have a second run of the tests go on from here
    os.close(writing)
    os.waitpid(child, 0)
    theirs = int(os.read(reading, 100))
    os.close(reading)

    assert theirs != ours
    assert pipe.ask([("CLIENT", "ID")]) == [ours]
