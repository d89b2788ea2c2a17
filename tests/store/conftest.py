"""A store that tells everything, an ear for it, and the client that tests look behind the curtain with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from jobpush.config import Config
from jobpush.store import Store
from jobpush.testing import PATIENCE

from .gateways import Ear


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        yield client


@pytest.fixture
def ear(client: redis.Redis) -> Iterator[Ear]:
    ear = Ear(client)
    yield ear
    ear.close()


@pytest.fixture
def telling_store(redis_url: str) -> Iterator[Store]:
    """A store whose settings have webhooks and subscription counts on."""
    webhook_urls = ("https://example.com/",)
    store = Store(
        Config(redis_url=redis_url, publish_timeout=PATIENCE, webhook_urls=webhook_urls, subscription_count=True)
    )
    yield store
    store.close()
