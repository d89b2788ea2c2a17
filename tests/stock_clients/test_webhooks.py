"""Webhooks of every kind end to end, from a client's action to the validation by Pusher's SDKs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pusher
import pytest

from jobpush.config import Config
from jobpush.processes.child import ChildProcess
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.signing import channel_auth, user_auth
from jobpush.webhooks.kinds import KINDS
from tests.gateway.client import Client
from tests.waiting import PATIENCE
from tests.webhooks.conftest import broker_of
from tests.webhooks.receiver import Received, Receiver

from .clients import find
from .deployment import APP_ID, KEY, SECRET, Server, environment_of

HERE = Path(__file__).parent
ROOM = "presence-room"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """The server that receives the webhooks."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def port(receiver: Receiver, tmp_path: Path) -> Iterator[int]:
    """The port of a gateway whose worker sends all webhooks to the receiver."""
    with EmbeddedRedis() as redis:
        config = Config(redis_url=redis.url, key=KEY, secret=SECRET, app_id=APP_ID, publish_timeout=PATIENCE)
        environment = {
            **environment_of(config),
            "BROKER_URL": broker_of(redis.url),
            "JOBPUSH_WEBHOOK_URLS": receiver.url,
            "JOBPUSH_WEBHOOK_ALLOW_PRIVATE": "yes",
            "JOBPUSH_SUBSCRIPTION_COUNT": "yes",
            "JOBPUSH_GRACE": "0",
        }
        celery = [sys.executable, "-m", "celery", "-A", "worker_app", "--workdir", str(HERE.parent / "webhooks")]
        worker = ChildProcess([*celery, "worker", "--pool", "solo"], log=tmp_path / "worker", environment=environment)
        gateway = Server([str(Path(sys.executable).with_name("jobpush")), "gateway"], tmp_path / "log", environment)
        yield gateway.port
        gateway.stop()
        worker.stop(signal.SIGTERM, signal.SIGQUIT, grace=2)


def test_webhooks_of_every_kind_pass_the_python_and_node_sdks(port: int, receiver: Receiver) -> None:
    cause_all_kinds(port)
    requests: list[Received] = []
    while {event["name"] for request in requests for event in json.loads(request.body)["events"]} < KINDS.keys():
        requests.append(receiver.next())

    in_python = [verified_by_python(request) for request in requests]
    in_node = verified_by_node(requests)

    assert None not in in_python
    assert [body["events"] for body in in_python] == [webhook["events"] for webhook in in_node]
    assert [body["time_ms"] for body in in_python] == [webhook["time"] for webhook in in_node]
    events = {event["name"]: event for body in in_python for event in body["events"]}
    assert {kind: set(event) - {"name"} for kind, event in events.items()} == {
        "channel_occupied": {"channel"},
        "channel_vacated": {"channel"},
        "member_added": {"channel", "user_id"},
        "member_removed": {"channel", "user_id"},
        "client_event": {"channel", "event", "data", "socket_id", "user_id"},
        "cache_miss": {"channel"},
        "subscription_count": {"channel", "subscription_count"},
        "user_online": {"user_id"},
        "user_offline": {"user_id"},
    }
    assert len({request.headers["Webhook-Id"] for request in requests}) == len(requests)

    changed = tampered(requests[0])
    assert [verified_by_python(request) for request in changed] == [None] * 3
    assert verified_by_node(changed) == [None] * 3


def cause_all_kinds(port: int) -> None:
    """Cause every kind of webhook event."""
    client = Client(port, key=KEY)
    user_data, channel_data = '{"id":"ann"}', '{"user_id":"ann"}'
    auth = user_auth(KEY, SECRET, client.socket_id, user_data)
    client.send("pusher:signin", {"auth": auth, "user_data": user_data})
    auth = channel_auth(KEY, SECRET, client.socket_id, ROOM, channel_data)
    client.subscribe(ROOM, auth=auth, channel_data=channel_data)
    client.send("client-typing", {"text": "Grüße"}, channel=ROOM)
    client.subscribe("cache-score")
    client.hang_up()


def tampered(request: Received) -> list[Received]:
    """Return copies of a request with another key, another signature, and another body."""
    path, headers, body = request.path, request.headers, request.body
    return [
        Received(path, {**headers, "X-Pusher-Key": "other"}, body),
        Received(path, {**headers, "X-Pusher-Signature": "0" * 64}, body),
        Received(path, headers, body + b" "),
    ]


def verified_by_python(request: Received) -> Any:
    """Return the body, as parsed by Pusher's Python SDK; ``None`` if the SDK rejects the request."""
    sdk = pusher.Pusher(APP_ID, KEY, SECRET)
    key, signature = request.headers["X-Pusher-Key"], request.headers["X-Pusher-Signature"]
    return sdk.validate_webhook(key, signature, request.body.decode())


def verified_by_node(requests: list[Received]) -> Any:
    """Return events and time of each request, as parsed by Pusher's Node SDK; ``None`` for rejected ones."""
    webhooks = [
        {
            "key": KEY,
            "secret": SECRET,
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "rawBody": request.body.decode(),
        }
        for request in requests
    ]
    command = [find("node", package="nodejs"), str(HERE / "verify_webhooks.mjs")]
    result = subprocess.run(
        command, input=json.dumps(webhooks), capture_output=True, text=True, check=True, env=os.environ
    )
    return json.loads(result.stdout)
