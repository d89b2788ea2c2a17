"""Web servers that give the gateway no sockets, and servers whose threads are greenlets: one sentence, and polling."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from waitress.server import create_server
from werkzeug.serving import make_server

from tests.gateway.client import TIMEOUT
from tests.gateway.conftest import Serve
from tests.gateway.site import KEY, METRICS_TOKEN, create_app

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
SOCKET, STREAM = f"/app/{KEY}?protocol=7&client=jobpush", "/jobpush/events"


def get(port: int, path: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    connection.request("GET", path, headers={"Cookie": "user=42", **headers})
    response = connection.getresponse()
    try:
        return response.status, response.read()
    finally:
        connection.close()


def refusal(port: int, path: str, **headers: str) -> str:
    """Return the message of a refusal for want of sockets."""
    status, body = get(port, path, **(UPGRADE if path == SOCKET else {}), **headers)
    error = json.loads(body)["error"]
    assert (status, error["code"]) == (501, "no_sockets")
    return str(error["message"])


@pytest.fixture
def waitress_port(redis_url: str) -> Iterator[int]:
    app = create_app(redis_url=redis_url)
    server = create_server(app, host="127.0.0.1", port=0, threads=2)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server.effective_port
    server.trigger.pull_trigger(server.close)
    server.task_dispatcher.shutdown()
    thread.join()
    app.extensions["jobpush"].hub.stop()


def test_waitress_logs_one_explanation_and_pages_poll(waitress_port: int, caplog: pytest.LogCaptureFixture) -> None:
    messages = {refusal(waitress_port, path) for path in (SOCKET, SOCKET, STREAM)}

    assert all("serve with gunicorn -c python:jobpush.gunicorn_conf" in message for message in messages)
    lines = [record.getMessage() for record in caplog.records if record.levelname != "INFO"]
    assert [line.partition(";")[0] for line in lines] == [
        "A request is refused: this web server does not expose its sockets, so pages poll"
    ]
    assert get(waitress_port, "/jobpush/tasks")[0] == 200


def test_server_with_one_thread_serves_no_connection_that_would_hold_it(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(redis_url=redis_url)
    server = make_server("127.0.0.1", 0, app, threaded=False)
    with ThreadPoolExecutor() as pool:
        pool.submit(server.serve_forever)
        try:
            messages = {refusal(server.port, path) for path in (SOCKET, STREAM)}
            status, _ = get(server.port, "/jobpush/tasks")
        finally:
            server.shutdown()
    server.server_close()
    app.extensions["jobpush"].hub.stop()

    assert all("hold the only thread" in message for message in messages)
    assert status == 200
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


def test_gevent_worker_logs_one_explanation_and_pages_poll(serve: Serve, tmp_path: Path) -> None:
    log = tmp_path / "log"
    port = serve("--worker-class", "gevent", log=log).port

    messages = {refusal(port, path) for path in (SOCKET, SOCKET, STREAM)}
    messages.add(refusal(port, "/jobpush/metrics", Authorization=f"Bearer {METRICS_TOKEN}"))

    assert all("serve with gunicorn -c python:jobpush.gunicorn_conf" in message for message in messages)
    assert get(port, "/jobpush/tasks")[0] == 200
    assert get(port, "/jobpush/health/ready") == (200, b'{"status":"polling_only"}\n')
    assert "Traceback" not in log.read_text()
    assert log.read_text().count("A request is refused: ") == 1
