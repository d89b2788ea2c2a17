"""The undocumented names of gunicorn in ``compat.py`` exist and behave as it describes."""

from __future__ import annotations

import inspect
import socket
from collections import deque
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import gunicorn.config
import pytest
from flask import Blueprint, Flask
from flask_sock import Sock
from gunicorn.http.unreader import Unreader
from gunicorn.workers import gthread

from jobpush.web.flask.handshake import HubSock
from jobpush.web.gunicorn import compat


def test_gunicorn_version_is_known() -> None:
    assert (25, 2) <= tuple(map(int, version("gunicorn").split(".")[:2])) < (28, 0)


def test_settings_are_plain_attributes_once_frozen() -> None:
    cfg = gunicorn.config.Config()
    cfg.set("threads", 7)

    compat.freeze_settings(cfg)

    assert set(cfg.settings) <= set(vars(cfg))
    assert cfg.threads == vars(cfg)["threads"] == 7


def test_bytes_read_ahead_are_in_the_parsers_unreader() -> None:
    unreader = Unreader()
    unreader.unread(b"GET / HTTP/1.1\r\n")

    assert compat.read_ahead(SimpleNamespace(parser=SimpleNamespace(unreader=unreader))) == b"GET / HTTP/1.1\r\n"
    assert compat.read_ahead(SimpleNamespace(parser=None)) == b""


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Any:
    """gunicorn's own worker, without a server around it."""
    cfg = gunicorn.config.Config()
    monkeypatch.setattr("gunicorn.workers.base.WorkerTmp", lambda cfg: None)
    worker = compat.ThreadWorker(1, 1, [], SimpleNamespace(wsgi=None), 30, cfg, SimpleNamespace())
    return worker


def test_idle_connections_are_queued_and_counted(worker: Any) -> None:
    ours, clients = socket.socketpair()
    worker.poller = SimpleNamespace(unregister=lambda sock: None)
    conn = gthread.TConn(worker.cfg, ours, ("192.0.2.1", 1), None)
    worker.nr_conns = 1
    compat.pending(worker).append(conn)

    compat.drop_idle(worker, compat.pending(worker), conn)

    with clients:
        assert clients.recv(1) == b""
    assert (worker.nr_conns, compat.pending(worker), compat.keepalived(worker)) == (0, deque(), deque())


def test_deferred_connection_waits_without_a_thread(worker: Any) -> None:
    ours, clients = socket.socketpair()
    registered: list[object] = []
    worker.poller = SimpleNamespace(register=lambda sock, *more: registered.append(sock))
    conn = gthread.TConn(worker.cfg, ours, ("192.0.2.1", 1), None)

    worker.finish_request(conn, SimpleNamespace(result=lambda: compat.DEFER, cancelled=lambda: False))

    assert (list(compat.pending(worker)), registered) == ([conn], [ours])
    ours.close()
    clients.close()


@pytest.mark.parametrize("name", ["init_process", "get_thread_pool", "load_wsgi", "handle", "finish_request", "notify"])
def test_worker_overrides_what_gunicorn_calls(name: str) -> None:
    from jobpush.web.gunicorn.worker import Worker

    ours, theirs = inspect.signature(getattr(Worker, name)), inspect.signature(getattr(gthread.ThreadWorker, name))

    assert list(ours.parameters) == list(theirs.parameters)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (gthread, "_DEFER"),
        (gthread.ThreadWorker, "handle_request"),
        (gthread.ThreadWorker, "finish_request"),
        (gthread.ThreadWorker, "enqueue_req"),
        (gthread.TConn, "set_timeout"),
    ],
)
def test_private_name_exists(owner: object, name: str) -> None:
    assert hasattr(owner, name)


def test_flask_sock_subclass_registers_a_websocket_route() -> None:
    assert list(inspect.signature(Sock.route).parameters)[:3] == ["self", "path", "bp"]
    blueprint, app = Blueprint("one", __name__), Flask(__name__)

    HubSock().route("/socket", bp=blueprint)(lambda: "")
    app.register_blueprint(blueprint)

    assert [rule.websocket for rule in app.url_map.iter_rules() if rule.rule == "/socket"] == [True]


def test_stopping_worker_keeps_connections_without_a_request_for_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    from jobpush.web.gunicorn import worker as module

    monkeypatch.setattr("jobpush.web.gunicorn.worker.time.monotonic", lambda: 100.0)
    waiting, kept = SimpleNamespace(timeout=110.0), SimpleNamespace(timeout=105.0)
    worker: Any = object.__new__(module.Worker)
    worker.pending_conns, worker.keepalived_conns = deque([waiting]), deque([kept])
    worker.alive, worker._idle_until, worker.nr_conns, worker.worker_connections = True, None, 2, 1_000

    worker._close_idle()
    before = waiting.timeout, kept.timeout
    worker.alive = False
    worker._close_idle()
    worker._close_idle()

    assert before == (110.0, 105.0)
    assert (waiting.timeout, kept.timeout) == (101.0, 101.0)
