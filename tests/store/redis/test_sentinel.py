"""Sentinel: both kinds of clients find the primary, also after a fail-over, and report why they do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from jobpush.config import Config
from jobpush.errors import StoreError
from jobpush.events import TaskEvent, TaskState
from jobpush.store import Store, TaskWrite
from jobpush.store.redis.client import RedisClient
from jobpush.store.webhooks import WebhookStore
from tests.effort import thorough
from tests.waiting import wait_until

from .sentinel import SentinelServers
from .test_async_connections import Links


@pytest.fixture
def sentinel_servers() -> Iterator[SentinelServers]:
    with SentinelServers() as servers:
        yield servers


def event(task_id: str) -> TaskWrite:
    return TaskWrite("42", TaskEvent(task_id, TaskState.SUCCESS, "work", "Work", 1.0, 1.0))


def succeeds(call: Callable[[], object]) -> Callable[[], bool]:
    def run() -> bool:
        with suppress(StoreError):
            call()
            return True
        return False

    return run


def test_clients_find_the_new_primary_when_the_old_one_is_killed(sentinel_servers: SentinelServers) -> None:
    store = Store(Config(redis_url=sentinel_servers.url, publish_timeout=2.0))
    links = Links(sentinel_servers.url)
    try:
        links.loop.call_soon(lambda: links.subscriber.subscribe(b"news"))
        links.wait_until(lambda: links.ups == 1 and links.subscribed == [b"news"])
        store.publish([event("before")])

        killed = sentinel_servers.kill_primary()
        wait_until(succeeds(lambda: store.publish([event("after")])))
        links.wait_until(lambda: links.ups == 2 and links.subscribed == [b"news", b"news"])

        assert sentinel_servers.primary != killed
        assert store.task("after").state is TaskState.SUCCESS
        links.call("SET", "from-the-hub", "1")
        assert sentinel_servers.connect(sentinel_servers.primary).get("from-the-hub") == b"1"
        sentinel_servers.connect(sentinel_servers.primary).publish("news", "hello")
        links.wait_until(lambda: links.messages == [(b"news", b"hello")])
    finally:
        links.close()
        store.close()


@thorough
def test_clients_follow_an_orderly_fail_over(sentinel_servers: SentinelServers) -> None:
    store = Store(Config(redis_url=sentinel_servers.url, publish_timeout=2.0))
    webhooks = WebhookStore(Config(redis_url=sentinel_servers.url))
    links = Links(sentinel_servers.url)
    try:
        links.wait_until(lambda: links.ups == 1)
        store.probe()
        webhooks.join()

        sentinel_servers.fail_over()

        wait_until(succeeds(store.probe))
        wait_until(succeeds(lambda: store.lead("queue", "worker", 600)))
        wait_until(succeeds(webhooks.join))
        links.wait_until(lambda: links.ups >= 2)
        new = sentinel_servers.connect(sentinel_servers.primary)
        assert new.exists(store.keys.queue_leader("queue"), store.keys.webhooks) == 2
    finally:
        links.close()
        webhooks.close()
        store.close()


def test_sentinel_that_names_a_replica_is_skipped(sentinel_servers: SentinelServers) -> None:
    old = sentinel_servers.primary
    stale = sentinel_servers.add_sentinel_of(next(port for port in sentinel_servers.servers if port != old))

    with RedisClient(sentinel_servers.url_of([stale, sentinel_servers.sentinels[0]]), timeout=2).at("any") as client:
        assert client.role()[0] == b"master"
    with pytest.raises(StoreError, match=rf"Sentinel 127.0.0.1:{stale} names 127.0.0.1:\d+, which is a replica"):
        RedisClient(sentinel_servers.url_of([stale]), timeout=2).run([("PING",)])


def test_unknown_name_and_unreachable_sentinels_are_one_clear_error(sentinel_servers: SentinelServers) -> None:
    unreachable = "127.0.0.1:1"

    with pytest.raises(StoreError, match=r"no primary 'other' found: Sentinel 127.0.0.1:\d+ knows no primary of this"):
        RedisClient(sentinel_servers.url_of(sentinel_servers.sentinels, "other"), timeout=2).run([("PING",)])
    with pytest.raises(StoreError, match=f"Sentinel {unreachable} failed .*refused"):
        RedisClient(f"redis+sentinel://{unreachable}/main/0", timeout=2).run([("PING",)])


def test_sentinels_and_servers_may_have_tls_and_different_passwords(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate, key, root = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem"
    issued = authority.issue_cert("127.0.0.1", "localhost")
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(root)
    with SentinelServers(password="d/a+ta", sentinel_password="w&tch", tls=(certificate, key, root)) as servers:
        options = f"ssl_ca_certs={root}&ssl_certfile={certificate}&ssl_keyfile={key}"
        base = servers.url.replace("://", "://:d%2Fa+ta@")
        client = RedisClient(f"{base}?{options}&sentinel_password=w%26tch", timeout=5)
        assert client.run([("SET", "a", 1)]) == [True]
        links = Links(f"{base}?{options}&sentinel_password=w%26tch")
        try:
            links.wait_until(lambda: links.ups == 1)
            assert links.call("GET", "a") == b"1"
        finally:
            links.close()
            client.close()

        for wrong in (f"{base}?{options}&sentinel_password=no", f"{servers.url}?{options}&sentinel_password=w%26tch"):
            with pytest.raises(StoreError, match="check user and password"):
                RedisClient(wrong, timeout=5).run([("SET", "a", 1)])


def test_retried_writes_survive_a_fail_over(sentinel_servers: SentinelServers) -> None:
    store = Store(Config(redis_url=sentinel_servers.url, publish_timeout=2.0))
    fail_over_at = {20: sentinel_servers.fail_over, 40: sentinel_servers.kill_primary}
    try:
        for number in range(60):
            fail_over: Any = fail_over_at.get(number)
            if fail_over is not None:
                fail_over()
            wait_until(succeeds(lambda number=number: store.publish([event(f"task-{number}")])))  # type: ignore[misc]
        recent = {store.task(f"task-{number}").state for number in range(41, 60)}
    finally:
        store.close()

    assert recent == {TaskState.SUCCESS}


def test_url_of_a_replica_is_one_clear_error(sentinel_servers: SentinelServers) -> None:
    replica = next(port for port in sentinel_servers.servers if port != sentinel_servers.primary)

    with pytest.raises(StoreError, match="this server is a replica; JOBPUSH_REDIS_URL must name the primary"):
        Store(Config(redis_url=f"redis://127.0.0.1:{replica}/0", publish_timeout=2.0)).probe()
