"""Connections that only receive also detect a dead peer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from jobpush.config import Config
from jobpush.errors import StoreError
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.store import CancelFeed, Store
from jobpush.store.redis import client
from tests.waiting import PATIENCE

from .proxy import Proxy


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A proxy to a new Redis."""
    with EmbeddedRedis(port=0) as server:
        proxy = Proxy(int(server.url.rpartition(":")[2].partition("/")[0]))
        yield proxy
        proxy.close()


def test_cancel_reader_detects_a_silent_network(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_PING_AFTER", 1.0)
    feed = CancelFeed(Config(redis_url=proxy.url))
    received: list[Any] = []
    ended = threading.Event()

    def listen() -> None:
        try:
            for task_id in feed.listen():
                received.append(task_id)
        except StoreError as exc:
            received.append(exc)
        ended.set()

    threading.Thread(target=listen, daemon=True).start()
    assert not ended.wait(2.5), received
    proxy.go_silent()

    assert ended.wait(PATIENCE), "the reader did not detect the silent network"
    assert isinstance(received[-1], StoreError)
    feed.close()


def test_store_finds_the_new_primary_of_a_demoted_redis(proxy: Proxy) -> None:
    with EmbeddedRedis(port=0) as primary, EmbeddedRedis(port=0) as successor:
        ports = [int(server.url.rpartition(":")[2].partition("/")[0]) for server in (primary, successor)]
        proxy.point_to(ports[0])
        store = Store(Config(redis_url=proxy.url, publish_timeout=PATIENCE))
        store.probe()
        direct = Store(Config(redis_url=primary.url, publish_timeout=PATIENCE))
        direct.run([("REPLICAOF", "127.0.0.1", ports[1])])
        direct.close()
        proxy.point_to(ports[1])

        with pytest.raises(StoreError):
            store.probe()

        store.probe()
        store.close()
