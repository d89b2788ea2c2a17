"""Whether a gateway lives, is ready, and ends in order; what it logs of that."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from jobpush.gateway import Gateway
from jobpush.processes.child import ChildProcess
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.web.gunicorn.logs import logging_config
from tests.effort import members
from tests.gateway.client import TIMEOUT, Client
from tests.gateway.conftest import Serve
from tests.gateway.site import KEY, SECRET
from tests.gateway.web import scrape_until
from tests.waiting import wait_until


@pytest.fixture
def app(redis_url: str) -> Iterator[Flask]:
    """An application whose hub runs in this process."""
    app = Flask(__name__)
    Gateway(app, key=KEY, secret=SECRET, redis_url=redis_url)
    yield app
    app.extensions["jobpush"].hub.stop()


def error_of(client: FlaskClient, path: str) -> tuple[int, str]:
    """Status and code."""
    response = client.get(path)
    return response.status_code, response.json["error"]["code"]


def test_stopping_gateway_is_first_not_ready_and_then_not_alive(app: Flask) -> None:
    client = app.test_client()
    assert client.get("/jobpush/health/live").status_code == 200

    app.extensions["jobpush"].hub.stop()

    assert error_of(client, "/jobpush/health/ready") == (503, "draining")
    assert error_of(client, "/jobpush/health/live") == (503, "hub_dead")


def test_hub_starts_with_the_first_request_of_a_server_and_not_of_a_test(app: Flask) -> None:
    state = app.extensions["jobpush"]
    client = app.test_client()

    server = {"SERVER_SOFTWARE": "other/1.0"}

    def threads() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "jobpush-hub"}

    before = threads()

    client.get("/nowhere")
    client.get("/nowhere", environ_overrides={**server, "wsgi.run_once": True})
    client.get("/nowhere", environ_overrides={**server, "wsgi.multiprocess": True, "werkzeug.socket": None})
    assert threads() == before

    client.get("/nowhere", environ_overrides=server)
    wait_until(lambda: state.store.live_gateways().ids)


def test_all_connections_are_drained_even_in_a_short_time(serve: Serve) -> None:
    site = serve(drain_timeout=0.2, max_connections_per_user=0)
    clients = [site.sign_in("42") for _ in range(200)]  # which would take a second otherwise
    site.process.send_signal(signal.SIGTERM)

    assert [client.wait_for_close() for client in clients] == [4200] * 200
    assert site.process.wait(TIMEOUT) == 0


class Gunicorn:
    """``jobpush gateway`` as a person starts it."""

    def __init__(self, redis_url: str, log: Path, *options: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._log = log
        self.process = ChildProcess(
            [sys.executable, "-m", "jobpush", "gateway", "--bind", f"127.0.0.1:{self.port}", *options],
            environment={
                **os.environ,
                "JOBPUSH_REDIS_URL": redis_url,
                "JOBPUSH_KEY": KEY,
                "JOBPUSH_SECRET": SECRET,
                "JOBPUSH_METRICS_TOKEN": "let-prometheus-in",
            },
            log=log,
        )

    @property
    def lines(self) -> list[str]:
        """What it has logged."""
        return self._log.read_text().splitlines()

    def wait_for(self, text: str) -> None:
        """Wait until it has logged something."""
        with self._log.open() as log:
            while self.process.is_running:
                if text in log.readline():
                    return
        raise AssertionError(self.lines)


@pytest.mark.parametrize("kind", members(["json", "text"]))
def test_standalone_gateway_logs_each_change_of_state(redis_server: EmbeddedRedis, tmp_path: Path, kind: str) -> None:
    gunicorn = Gunicorn(redis_server.url, tmp_path / "log", "--log", kind)
    try:
        gunicorn.wait_for("Booting worker")
        client = Client(gunicorn.port)
        client.receive()
        scrape_until(gunicorn, lambda figures: figures["jobpush_ready"] == 1)  # type: ignore[arg-type]
        redis_server.kill()
        scrape_until(gunicorn, lambda figures: figures["jobpush_ready"] == 0)  # type: ignore[arg-type]
        redis_server.start()
        scrape_until(gunicorn, lambda figures: figures["jobpush_ready"] == 1)  # type: ignore[arg-type]
        gunicorn.process.send_signal(signal.SIGTERM)
        assert client.wait_for_close() == 4200
        client.hang_up()
        assert gunicorn.process.wait(TIMEOUT) == 0
    finally:
        gunicorn.process.kill()

    lines = [json.loads(line) for line in gunicorn.lines] if kind == "json" else gunicorn.lines
    texts = [line["message"] if isinstance(line, dict) else line for line in lines]
    for change, count in (
        ("command connection to Redis works", 2),
        ("subscription connection to Redis works", 2),
        ("command connection to Redis unix:", 1),
        ("subscription connection to Redis unix:", 1),
        ("The gateway stops: 1 connections", 1),
        ("The gateway has stopped: 0 connections", 1),
    ):
        assert sum(change in text for text in texts) == count, (change, texts)
    if kind == "json":
        assert {frozenset(line) for line in lines} == {frozenset({"at", "level", "logger", "process", "message"})}


def test_unknown_log_format_is_refused() -> None:
    with pytest.raises(ValueError, match="text or json, not 'xml'"):
        logging_config("xml")
