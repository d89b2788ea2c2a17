"""What every room's tests share: a private Redis for the test that asks, and one Chromium for the whole run."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings
from playwright.sync_api import Browser
from redis import Redis

from jobpush.config import Config
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.store import Store
from jobpush.testing import PATIENCE
from tests.browsers import chromium
from tests.effort import IS_FULL, examples, order
from tests.store import servers

# Where the run itself was put into the background, its programs would take no Ctrl-C from the tests either.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine may hold up any example for a while.
settings.register_profile("jobpush", deadline=None, max_examples=examples(100))
settings.load_profile("jobpush")


@pytest.fixture(scope="session", autouse=True)
def new_enough_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let the tests and their programs find the first ``redis-server`` that is new enough, or the chosen server."""
    program = servers.find(servers.CHOSEN)
    with pytest.MonkeyPatch.context() as patch:
        if program != shutil.which("redis-server"):
            patch.setenv("PATH", servers.put_first(program, tmp_path_factory.mktemp("bin")))
        yield


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only a full run tries, and begin with the longest modules."""
    items.sort(key=order)
    if not IS_FULL:
        left_out = [item for item in items if item.get_closest_marker("thorough")]
        items[:] = [item for item in items if item not in set(left_out)]
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture(autouse=True)
def no_outside_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the settings of whoever runs the tests out of them."""
    for name in [name for name in os.environ if name.startswith("JOBPUSH_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def no_event_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """Hide the event loop that Playwright leaves running in this thread: a test without a browser may run its own."""
    left = None if "browser" in request.fixturenames else asyncio._get_running_loop()
    if left is not None:
        asyncio._set_running_loop(None)
    yield
    if left is not None:
        asyncio._set_running_loop(left)


@pytest.fixture
def redis_server() -> Iterator[EmbeddedRedis]:
    """A Redis for one test, which may kill and restart it, or change its settings."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[tuple[str, Redis]]:
    """The URL of a Redis for all tests that need no more, and a client of it. A start takes 30 ms of CPU."""
    with EmbeddedRedis() as server, Redis.from_url(server.url) as client:
        yield server.url, client


@pytest.fixture
def redis_url(request: pytest.FixtureRequest) -> str:
    """The URL of the test's own Redis, if it has one; otherwise of the shared one, emptied."""
    if "redis_server" in request.fixturenames:
        server: EmbeddedRedis = request.getfixturevalue("redis_server")
        return server.url
    url, client = request.getfixturevalue("shared_redis")
    client.flushall()
    client.config_resetstat()
    return str(url)


@pytest.fixture
def store(redis_url: str) -> Iterator[Store]:
    """A store on that Redis."""
    store = Store(Config(redis_url=redis_url, publish_timeout=PATIENCE))
    yield store
    store.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One headless Chromium for all; a visitor is a context of it."""
    with chromium() as browser:
        yield browser
