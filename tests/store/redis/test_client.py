"""Blocking connections to a real Redis."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from jobpush.config import Config
from jobpush.errors import CommandRefused, StoreError
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.reporting.services import Services
from jobpush.store.redis import client as client_module
from jobpush.store.redis.client import RedisClient
from jobpush.store.scripts import Call
from jobpush.testing import PATIENCE

ECHO: Any = SimpleNamespace(source=b"return ARGV[1]", sha="098e0f0d1448c0a81dafe820f66d460eb09263da")


@pytest.fixture
def connections(redis_url: str) -> Iterator[RedisClient]:
    connections = RedisClient(redis_url, timeout=PATIENCE)
    yield connections
    connections.close()


def test_replies_are_in_the_order_of_the_commands(connections: RedisClient) -> None:
    commands = [("SET", "a", 1), ("HSET", "h", "x", "y"), ("HGETALL", "h"), ("GET", "a"), ("GET", "none")]

    assert connections.run(commands) == [True, 1, {b"x": b"y"}, b"1", None]


def test_refused_command_is_an_error_and_the_others_run(connections: RedisClient) -> None:
    connections.run([("SET", "a", 1)])

    with pytest.raises(CommandRefused):
        connections.run([("HGETALL", "a"), ("SET", "b", 2)])

    assert connections.run([("GET", "b")]) == [b"2"]


def test_unknown_scripts_are_loaded_and_run_once(connections: RedisClient, client: redis.Redis) -> None:
    source = b"return redis.call('INCR', KEYS[1])"
    count: Any = SimpleNamespace(source=source, sha=client.script_load(source))
    client.script_flush()

    replies = connections.run([Call(count, ["n"], ()), Call(ECHO, (), ("hello",)), Call(count, ["n"], ())])

    assert replies == [1, b"hello", 2]


def test_large_commands_and_replies_come_in_parts(connections: RedisClient) -> None:
    text = b"x" * 1_000_000

    assert connections.run([("SET", "large", text), ("GET", "large")])[1] == text


def test_transaction_runs_all_commands_and_reports_a_refused_one(connections: RedisClient) -> None:
    assert connections.transact("a", ("SET", "a", 1), ("INCR", "a")) == [True, 2]

    with pytest.raises(StoreError):
        connections.transact("a", ("HSET", "a", "x", "y"))


def test_connection_closed_by_redis_is_replaced(connections: RedisClient, client: redis.Redis) -> None:
    connections.run([("PING",)])
    client.client_kill_filter(_type="normal", skipme=True)

    assert connections.run([("GET", "none")]) == [None]
    assert connections.connects == 2


def test_unreachable_redis_is_an_error_until_it_returns(connections: RedisClient, redis_server: EmbeddedRedis) -> None:
    connections.run([("PING",)])
    redis_server.kill()

    with pytest.raises(StoreError):
        connections.run([("GET", "none")])

    redis_server.start()
    assert connections.run([("GET", "none")]) == [None]


def test_each_thread_has_its_own_connection(connections: RedisClient) -> None:
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda number: connections.run([("ECHO", number)] * 20), range(200)))

    assert replies == [[str(number).encode()] * 20 for number in range(200)]


def test_many_threads_get_more_connections_than_the_default_pool(connections: RedisClient) -> None:
    with ThreadPoolExecutor(120) as threads:
        waiting = [threads.submit(connections.run, [("BLPOP", "go", PATIENCE)]) for _ in range(120)]
        connections.run([("RPUSH", "go", *range(120))])

        assert all(one.result()[0] for one in waiting)


def test_forked_child_has_its_own_connections(connections: RedisClient) -> None:
    (ours,) = connections.run([("CLIENT", "ID")])

    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, str(connections.run([("CLIENT", "ID")])[0]).encode())
        finally:
            os._exit(0)  # or an error would have a second run of the tests go on from here
    os.close(writing)
    os.waitpid(child, 0)
    theirs = int(os.read(reading, 100))
    os.close(reading)

    assert theirs != ours
    assert connections.run([("CLIENT", "ID")]) == [ours]


def test_subscription_yields_its_confirmation_then_messages(connections: RedisClient, client: redis.Redis) -> None:
    messages = connections.subscribe("news")

    assert next(messages) is None
    client.publish("news", "hello")
    assert next(messages) == b"hello"

    client.client_kill_filter(_type="pubsub")
    with pytest.raises(StoreError):
        next(messages)


def test_clients_reconnect_after_their_primary_is_demoted(
    connections: RedisClient, redis_url: str, client: redis.Redis
) -> None:
    other, elsewhere = RedisClient(redis_url, timeout=PATIENCE), RedisClient("redis://unused:1", timeout=PATIENCE)
    ids = [one.run([("CLIENT", "ID")]) for one in (connections, other)]
    client.replicaof("127.0.0.1", 1)

    with pytest.raises(StoreError, match="must name the primary"):
        connections.run([("SET", "a", 1)])

    client.replicaof("NO", "ONE")
    assert [one.run([("CLIENT", "ID")]) for one in (connections, other)] != ids
    assert other.connects == 2
    assert elsewhere.connects == 0


@pytest.mark.parametrize("wrong_by", [-3_600.0, 3_600.0])
def test_stamp_of_a_published_task_is_redis_time_on_a_host_with_a_wrong_clock(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, wrong_by: float
) -> None:
    wrong: Any = SimpleNamespace(time=lambda: time.time() + wrong_by)
    monkeypatch.setattr(client_module, "time", wrong)
    monkeypatch.setattr(Services, "clock", wrong)
    services = Services(lambda: Config(redis_url=redis_url, publish_timeout=PATIENCE))
    services.store.probe()

    assert abs(services.published_at() - time.time()) < 60
    services.store.close()


def test_equal_clocks_are_not_corrected(redis_url: str) -> None:
    connections = RedisClient(redis_url, timeout=PATIENCE, probe="probe")
    connections.run([("PING",)])

    assert connections.clock_offset == 0.0
    connections.close()


def test_user_without_the_time_command_can_publish(redis_server: EmbeddedRedis) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        rights = ("~jobpush:*", "&*", "+@all", "-time")
        client.execute_command("ACL", "SETUSER", "worker", "on", ">secret", *rights)
    url = redis_server.url.replace("unix://", "unix://worker:secret@")

    connections = RedisClient(url, timeout=PATIENCE, probe="probe")

    assert connections.run([("PING",), ("PING",)]) == [True, True]
    assert connections.clock_offset == 0.0
    connections.close()
