"""Handover of sockets under WSGI middleware: no connection causes an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.effort import members
from tests.gateway.conftest import Serve
from tests.gateway.web import request
from tests.web.flask.test_routes import event_stream


@pytest.mark.parametrize(
    "kinds",
    [
        "'reporter', 'tracer'",
        *members(["'reporter'", "'profiler'", "'reporter', 'generator'", "'generator', 'reporter'"]),
    ],
)
def test_connections_cause_no_error_under_middleware(serve: Serve, tmp_path: Path, kinds: str) -> None:
    log = tmp_path / "log"
    site = serve(application=f"tests.web.gunicorn.wrapped:wrap({kinds})", log=log)

    for _ in range(5):
        client = site.connect("42")
        client.receive()
        client.hang_up()
        with event_stream(site, "/jobpush/events", user="42") as stream:
            next(stream)
    assert request(site, "GET", "/jobpush/tasks", user="42")[0] == 200
    assert site.stop() == 0

    text = log.read_text()
    assert "Traceback" not in text and "ERROR" not in text, text
    assert text.count("a span begins") == text.count("a span ends")


@pytest.mark.parametrize("worker_class", members(["gthread", "sync"]))
def test_connections_cause_no_error_under_standard_gunicorn_workers(
    serve: Serve, tmp_path: Path, worker_class: str
) -> None:
    log = tmp_path / "log"
    site = serve("--worker-class", worker_class, log=log)

    for _ in range(5):
        client = site.connect("42")
        client.receive()
        client.hang_up()
    assert site.stop() == 0

    text = log.read_text()
    assert "Traceback" not in text and "ERROR" not in text, text
