"""What the tests of webhooks share: an application on the test's Redis, and its events."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from celery import Celery
from pusher import Pusher

from jobpush.config import Config
from jobpush.store.webhooks import WebhookStore

from .receiver import Received

KEY = "app-key"
SECRET = "app-secret"

MakeConfig = Callable[..., Config]
Append = Callable[..., None]


@pytest.fixture
def make_config(redis_url: str) -> MakeConfig:
    """Settings for receivers on the loopback, with short times."""

    def make(*urls: str, **settings: Any) -> Config:
        defaults: dict[str, Any] = {
            "redis_url": redis_url,
            "key": KEY,
            "secret": SECRET,
            "webhook_urls": urls,
            "webhook_allow_private": True,
            "webhook_batch_interval": 0.05,
            "webhook_retry_delay": 0.01,
            "retry_interval": 0.02,
        }
        return Config(**defaults | settings)

    return make


def broker_of(redis_url: str) -> str:
    """A unix socket's URL as Celery takes it."""
    return f"redis+socket://{urlsplit(redis_url).path}?virtual_host=0"


@pytest.fixture
def celery_app(redis_url: str) -> Iterator[Celery]:
    """An application whose broker is the test's Redis."""
    with Celery("webhooks", broker=broker_of(redis_url), set_as_current=False) as app:
        app.conf.broker_connection_retry_on_startup = True
        yield app


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """A plain client, to see what is kept."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def webhook_store(redis_url: str) -> Iterator[WebhookStore]:
    """The store of webhooks on the test's Redis, already in the group."""
    store = WebhookStore(Config(redis_url=redis_url))
    store.join()
    yield store
    store.close()


@pytest.fixture
def append(client: redis.Redis) -> Append:
    """Write an event down as the presence scripts do."""

    def append(name: str, **members: str) -> None:
        fields = {"e": json.dumps({"name": name, **members}), "ms": str(int(time.time() * 1000))}
        client.xadd("jobpush:{webhooks}:stream", fields)

    return append


def verified(request: Received) -> Any:
    """What Pusher's own SDK makes of a request; ``None`` if it is not genuine."""
    sdk = Pusher("1", KEY, SECRET)
    key, signature = request.headers["X-Pusher-Key"], request.headers["X-Pusher-Signature"]
    return sdk.validate_webhook(key, signature, request.body.decode())
