"""The requests that the pages make with curl and with Pusher's SDK are answered by a gateway."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pusher
import pytest
import redis
from flask import Flask
from werkzeug.serving import make_server

from jobpush import Gateway
from jobpush.testing import PATIENCE

DOCS = Path(__file__).parents[2] / "docs"
SETTINGS = {"app_id": "1", "key": "my-app", "secret": "0123456789abcdef0123456789abcdef", "metrics_token": "m"}


@pytest.fixture
def port(redis_url: str) -> Iterator[int]:
    """The port of a gateway with the settings of the pages."""
    app = Flask(__name__)
    Gateway(app, redis_url=redis_url, publish_timeout=PATIENCE, **SETTINGS)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()
    app.extensions["jobpush"].hub.stop()


@pytest.fixture
def published(redis_url: str) -> Iterator[redis.client.PubSub]:
    """What Redis publishes for the channel of the examples."""
    with redis.Redis.from_url(redis_url) as client, client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.psubscribe("*news*")
        pubsub.get_message(timeout=PATIENCE)
        yield pubsub


def assert_headline(published: redis.client.PubSub) -> None:
    message = published.get_message(timeout=PATIENCE)
    assert message is not None
    assert b"headline" in message["data"] and b"hello" in message["data"]


def run(page: str, port: int) -> str:
    """Run the example of a page with curl, and return its output."""
    (script,) = [
        block for block in re.findall(r"```sh\n(.*?)```", (DOCS / page).read_text(), re.DOTALL) if "curl" in block
    ]
    script = re.sub(r"https://push\.example\.com|http://127\.0\.0\.1:8000", f"http://127.0.0.1:{port}", script)
    environment = {**os.environ, **{f"JOBPUSH_{name.upper()}": value for name, value in SETTINGS.items()}}
    done = subprocess.run(["bash", "-ec", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_request_with_curl_publishes_an_event(port: int, published: redis.client.PubSub) -> None:
    answer = run("howto/pusher-and-echo.md", port)

    assert json.loads(answer) == {}
    assert_headline(published)


def test_scrape_with_curl_returns_the_metrics(port: int) -> None:
    assert "jobpush_connections 0" in run("run/metrics.md", port)


@pytest.mark.parametrize("page", ["howto/pusher-and-echo.md", "migrate/others.md"])
def test_sdk_of_pusher_publishes_an_event(page: str, port: int, published: redis.client.PubSub) -> None:
    *_, example = [
        one for one in re.findall(r"```py\n(.*?)```", (DOCS / page).read_text(), re.DOTALL) if "Pusher(" in one
    ]
    example = example.replace('host="push.example.com", ssl=True', f'host="127.0.0.1", port={port}, ssl=False')

    exec(compile(example, page, "exec"), {"pusher": pusher})  # noqa: S102

    assert_headline(published)
