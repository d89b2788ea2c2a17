"""Shared fixtures: a store with webhooks, a recorder of what it publishes, and a plain Redis client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from jobpush.config import Config
from jobpush.processes import embedded
from jobpush.store import Store
from jobpush.testing import PATIENCE

from . import servers
from .gateways import PubSubRecorder

#: Fixtures that start a server.
_WITH_SERVER = {"redis_server", "server", "sentinel_servers"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test on several servers; see :mod:`tests.store.servers`."""
    is_of_connections = metafunc.definition.path.parent.name == "redis"
    is_of_cluster = bool({"cluster_servers", "own_cluster_servers"} & set(metafunc.fixturenames))
    has_server = is_of_cluster or _WITH_SERVER & set(metafunc.fixturenames)
    if has_server and (servers.EVERY or is_of_connections):
        names = servers.ALL if servers.EVERY else [servers.CHOSEN]
        if is_of_cluster:
            names = [name for name in names if name not in servers.WITHOUT_CLUSTER]
        metafunc.parametrize("server_program", names, indirect=True)


@pytest.fixture(autouse=True)
def server_program(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program of all servers that the test starts; by default the one that the demo uses."""
    name = getattr(request, "param", None)
    if name is not None:
        program = servers.find(name)
        monkeypatch.setattr(embedded, "find_redis_server", lambda: program)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        yield client


@pytest.fixture
def recorder(client: redis.Redis) -> Iterator[PubSubRecorder]:
    recorder = PubSubRecorder(client)
    yield recorder
    recorder.close()


@pytest.fixture
def webhook_store(redis_url: str) -> Iterator[Store]:
    """A store with webhooks and subscription counts enabled."""
    webhook_urls = ("https://example.com/",)
    store = Store(
        Config(redis_url=redis_url, publish_timeout=PATIENCE, webhook_urls=webhook_urls, subscription_count=True)
    )
    yield store
    store.close()
