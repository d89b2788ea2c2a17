"""No secret appears in logs or responses of a gateway and a worker during failures, nor in the repr of an object."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis
from flask import Flask

from jobpush import JobPush
from jobpush.channels import user_topic
from jobpush.config import Config
from jobpush.errors import JobPushError
from jobpush.gateway import Gateway
from jobpush.gateway.counters import Refusals
from jobpush.gateway.hub import Hub
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.store import Store
from jobpush.store.keys import Keys
from jobpush.webhooks.endpoints import configured_endpoints
from jobpush.webhooks.relay import WebhookRelay
from tests.celery_site.site import Site as Workers
from tests.gateway.conftest import Serve, Site, serve  # noqa: F401 - a fixture
from tests.gateway.site import METRICS_TOKEN, SECRET
from tests.gateway.web import authorize, call_api, request, scrape_until
from tests.waiting import wait_until

PASSWORD = "redis-hunter2"
PREVIOUS = "previous-hunter2"
HOOK = "hook-hunter2"
HOOK_TOKEN = "token-hunter2"
HOOK_URL = f"http://user:{HOOK}@127.0.0.1:1/hook?token={HOOK_TOKEN}"
SECRETS = {
    SECRET,
    METRICS_TOKEN,
    PASSWORD,
    PREVIOUS,
    HOOK,
    HOOK_TOKEN,
    base64.b64encode(f"user:{HOOK}".encode()).decode(),
}


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> str:
    """The URL of a Redis with a password; the URL contains the password."""
    set_password(redis_server, PASSWORD)
    return redis_server.url.replace("unix://", f"unix://:{PASSWORD}@")


def set_password(server: EmbeddedRedis, password: str, *, before: str | None = None) -> None:
    """Change the password of a Redis, and disconnect its clients."""
    with redis.Redis.from_url(server.url, password=before) as client:
        client.config_set("requirepass", password)
    with redis.Redis.from_url(server.url, password=password) as client:
        client.client_kill_filter(_type="normal", skipme=True)
        client.client_kill_filter(_type="pubsub", skipme=True)


def test_no_secret_is_logged_or_returned_in_any_failure(
    serve: Serve,  # noqa: F811 - the fixture
    redis_server: EmbeddedRedis,
    redis_url: str,
    tmp_path: Path,
) -> None:
    log = tmp_path / "gateway.log"
    with EmbeddedRedis() as broker:
        site = serve("--log-level", "debug", log=log, previous_secret=PREVIOUS)
        workers = Workers(broker, cast(EmbeddedRedis, SimpleNamespace(url=redis_url)), tmp_path)
        try:
            responses = "".join(cause_failures(site, workers, redis_server, redis_url))
        finally:
            redis_server.kill()  # a normal shutdown would use the original password
            workers.close()
        arguments = Path(f"/proc/{site.process.pid}/cmdline").read_text()
        site.stop()
    seen = {"gateway": log.read_text(), "worker": workers.log, "responses": responses, "arguments": arguments}

    for place, text in seen.items():
        assert not [secret for secret in SECRETS if secret in text], place
    # The failures did occur, and were logged.
    for words in ("connection to Redis", "the application has an error", "malformed message"):
        assert words in seen["gateway"], words
    for words in ("progress can't be published", "webhook http://127.0.0.1:1/hook", "ValueError: no such file"):
        assert words in seen["worker"], words


def cause_failures(site: Site, workers: Workers, server: EmbeddedRedis, redis_url: str) -> Iterator[str]:
    """Cause every kind of failure; yield the responses."""
    yield from refused_requests(site)
    with redis.Redis.from_url(redis_url) as client:
        reader = site.sign_in("42")
        client.publish(Keys("jobpush").topic(user_topic("42")), "not a message")
        event = {"name": "channel_occupied", "channel": "presence-room"}
        client.xadd("jobpush:{webhooks}:stream", {"e": json.dumps(event), "ms": str(int(time.time() * 1000))})
    workers.start_worker(
        "-c",
        "2",
        environment={
            "JOBPUSH_KEY": "key",
            "JOBPUSH_SECRET": SECRET,
            "JOBPUSH_PREVIOUS_SECRET": PREVIOUS,
            "JOBPUSH_WEBHOOK_URLS": HOOK_URL,
            "JOBPUSH_WEBHOOK_ALLOW_PRIVATE": "yes",
        },
    )
    workers.delay("fails", "42")
    workers.delay("waits", "42")
    wait_for_log(workers, "webhook http://127.0.0.1:1/hook")
    set_password(server, "another", before=PASSWORD)
    scrape_until(site, lambda figures: figures["jobpush_ready"] == 0)
    wait_for_log(workers, "progress can't be published")
    yield from refused_requests(site)
    yield json.dumps(reader.received)
    server.kill()  # Redis is unreachable from here on
    yield from refused_requests(site)


def wait_for_log(workers: Workers, text: str) -> None:
    """Wait until a worker has logged a text."""
    wait_until(lambda: text in workers.log, lambda: workers.log)


def refused_requests(site: Site) -> Iterator[str]:
    """Yield the responses to invalid requests, and to valid ones during an outage."""
    client = site.connect("42")
    client.send("pusher:signin", {"auth": "278d425bdf160c739803:00", "user_data": '{"id":"42"}'})
    client.wait_for_close()
    yield json.dumps(client.received)
    yield from (text(request(site, "GET", path, user="42", is_json=False)) for path in PATHS)
    yield text(call_api(site, "GET", "/apps/1/channels"))
    yield text(request(site, "POST", "/apps/1/events?auth_key=x&auth_signature=y", is_json=False))
    yield text(authorize(site, "private-broken", user="42", is_json=False))
    yield text(authorize(site, "private-task-none", user="42", is_json=False))
    yield text(request(site, "GET", "/jobpush/metrics", headers={"Authorization": "Bearer x"}, is_json=False))
    yield json.dumps(site.connect(key="unknown").receive())


PATHS = (
    "/page",
    "/jobpush/config",
    "/jobpush/tasks",
    "/jobpush/tasks/none",
    "/jobpush/health/live",
    "/jobpush/health/ready",
    "/jobpush/static/none",
)


def text(response: object) -> str:
    """Return the status and body of a response."""
    return str(response)


def test_no_object_shows_a_secret() -> None:
    values: dict[str, Any] = {
        "key": "key",
        "secret": SECRET,
        "previous_secret": PREVIOUS,
        "redis_url": f"redis://:{PASSWORD}@localhost/0",
        "metrics_token": METRICS_TOKEN,
        "webhook_urls": (HOOK_URL,),
    }
    config = Config(**values)
    app = Flask(__name__)
    gateway = Gateway(app, **values)
    state = app.extensions["jobpush"]
    jobpush = JobPush(**values)
    hub = Hub(config, Refusals())
    hub.loop.close()
    objects = [
        config,
        gateway,
        state,
        state.limits,
        jobpush,
        Store(config),
        hub,
        *configured_endpoints(config),
        WebhookRelay(None, config),
    ]

    for instance in objects:
        shown = f"{instance!r} {instance}"
        assert not [secret for secret in SECRETS if secret in shown], type(instance)


@pytest.mark.parametrize(
    "settings",
    [
        {"redis_url": f"redis://:{PASSWORD}/x@localhost"},
        {"redis_url": f"http://:{PASSWORD}@localhost"},
        {"webhook_urls": (f"http://user:{HOOK}/x@localhost",)},
        {"webhook_urls": (f"ftp://user:{HOOK}@localhost/?token={HOOK_TOKEN}",)},
    ],
)
def test_error_about_a_setting_does_not_repeat_it(settings: dict[str, Any]) -> None:
    with pytest.raises(JobPushError) as caught:
        config = Config(key="key", secret=SECRET, **settings)
        configured_endpoints(config)
        Store(config)

    shown = repr(caught.value) + repr(caught.value.__cause__)
    assert not [secret for secret in SECRETS if secret in shown]
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
