"""Celery's broker as the Redis of the events, where nothing else is said."""

from __future__ import annotations

import pytest
from celery import Celery

from jobpush import JobPush
from jobpush.queues.celery.broker import redis_url_of


@pytest.mark.parametrize(
    ("broker_url", "redis_url"),
    [
        ("redis://:secret@host:6380/3", "redis://:secret@host:6380/3"),
        ("rediss://host/0?ssl_cert_reqs=required", "rediss://host/0?ssl_cert_reqs=required"),
        ("rediss://host/0?ssl_cert_reqs=CERT_REQUIRED", "rediss://host/0?ssl_cert_reqs=required"),
        ("rediss://host/0?a=b&ssl_cert_reqs=CERT_NONE&c=d", "rediss://host/0?a=b&ssl_cert_reqs=none&c=d"),
        ("redis+socket:///run/redis.sock", "unix:///run/redis.sock?db=0"),
        ("redis+socket:///run/redis.sock?virtual_host=2", "unix:///run/redis.sock?db=2"),
        ("redis://one;redis://two", "redis://one"),
        (["redis://one", "redis://two"], "redis://one"),
        ("amqp://guest@host//", None),
        ("sentinel://host:26379", None),
        (None, None),
        ([], None),
    ],
)
def test_address_of_the_broker(broker_url: object, redis_url: str | None) -> None:
    assert redis_url_of(broker_url) == redis_url


def test_settings_win_over_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Celery("settings", broker="redis://broker/0", set_as_current=False)

    assert JobPush(app).config.redis_url == "redis://broker/0"
    monkeypatch.setenv("JOBPUSH_REDIS_URL", "redis://environment/0")
    assert JobPush(app).config.redis_url == "redis://environment/0"
    app.conf.jobpush_redis_url = "redis://conf/0"
    assert JobPush(app).config.redis_url == "redis://conf/0"
    assert JobPush(app, redis_url="redis://keyword/0").config.redis_url == "redis://keyword/0"


def test_settings_are_read_on_first_use() -> None:
    app = Celery("late", set_as_current=False)
    jobpush = JobPush()
    jobpush.init_celery(app)

    app.conf.update(broker_url="redis://late/0", jobpush_prefix="late")

    assert (jobpush.config.redis_url, jobpush.config.prefix) == ("redis://late/0", "late")
