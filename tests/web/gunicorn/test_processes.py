"""Web servers and their processes: threads, workers, drains, and servers that keep their sockets."""

from __future__ import annotations

import http.client
import os
import socket

import pytest

from jobpush.store import Store
from jobpush.web.gunicorn import handover
from jobpush.web.gunicorn.handover import hand_over
from tests.effort import thorough
from tests.gateway.client import data_of
from tests.gateway.conftest import Serve, Site
from tests.gateway.publishing import start
from tests.waiting import wait_until


@thorough
def test_five_hundred_connections_need_the_four_threads_of_a_worker(serve: Serve, store: Store) -> None:
    site = serve(max_connections_per_user=0)
    clients = [site.sign_in("42") for _ in range(500)]

    start(store, "42", "one")

    # The first client may get a ping while the others still connect.
    events = [client.receive_until(lambda message: message["event"] == "jobpush:task")[-1] for client in clients]
    assert {data_of(event)["task_id"] for event in events} == {"one"}
    assert status(site, "/jobpush/health/live") == 200


@pytest.mark.parametrize("arguments", [("--preload", "--workers", "2"), ("--config", "tests/web/gunicorn/own_conf.py")])
def test_hubs_start_with_the_worker_processes(serve: Serve, store: Store, arguments: tuple[str, ...]) -> None:
    serve(*arguments)

    wait_until(lambda: len(store.live_gateways().ids) == (2 if "--workers" in arguments else 1), "a hub in each")


class Placeholder:
    """A socket that is closed with its last reference."""

    def __init__(self) -> None:
        self._fd = socket.socket(socket.AF_UNIX).detach()

    def fileno(self) -> int:
        return self._fd

    def __del__(self) -> None:
        os.close(self._fd)


def test_first_socket_may_be_taken_by_two_threads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then one of them gets a placeholder that nobody else holds."""
    monkeypatch.setattr(handover, "_placeholder", Placeholder)
    taken, client = socket.socketpair()

    with taken, client:
        fds: list[int] = []
        hand_over({"gunicorn.socket": taken}, fds.append)
        with socket.socket(fileno=fds[0]) as hubs:
            hubs.send(b"hello")

            assert client.recv(5) == b"hello"


def test_connections_of_two_workers_receive_the_same_events(serve: Serve, store: Store) -> None:
    site = serve("--workers", "2")
    clients = [site.sign_in("42") for _ in range(20)]

    receipt = store.trigger(["#server-to-user-42"], "hello", {})

    assert receipt.connections == 20
    assert {client.receive()["event"] for client in clients} == {"hello"}


@pytest.mark.parametrize("arguments", [("--preload",), ("--worker-class", "sync")])
def test_hub_is_created_in_the_worker_even_with_preload(serve: Serve, store: Store, arguments: tuple[str, ...]) -> None:
    site = serve(*arguments)
    clients = [site.sign_in("42") for _ in range(3)]

    start(store, "42", "one")

    # The first client may get a ping while the others still connect.
    events = [client.receive_until(lambda message: message["event"] == "jobpush:task")[-1] for client in clients]
    assert {data_of(event)["task_id"] for event in events} == {"one"}


def test_werkzeug_server_uses_one_thread_per_connection(serve: Serve, store: Store) -> None:
    site = serve(server="werkzeug")
    clients = [site.sign_in("42") for _ in range(5)]

    start(store, "42", "one")
    echo = site.connect(path="/echo")
    echo.send_text("hello")

    # The first client may get a ping while the others still connect.
    events = [client.receive_until(lambda message: message["event"] == "jobpush:task")[-1] for client in clients]
    assert {data_of(event)["task_id"] for event in events} == {"one"}
    assert echo.receive() == {"text": "hello"}


def test_clients_of_a_stopped_worker_reconnect(site: Site) -> None:
    clients = [site.sign_in("42") for _ in range(20)]

    returncode = site.stop()

    assert [client.wait_for_close() for client in clients] == [4200] * 20
    assert returncode == 0


def test_clients_of_a_stopped_gateway_count_until_they_can_reconnect(serve: Serve, store: Store) -> None:
    site = serve(grace=0.0)
    site.sign_in("42")

    site.stop()

    assert store.trigger(["#server-to-user-42"], "hello", {}).connections == 0


def status(site: Site, path: str) -> int:
    """Status of a GET."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status
