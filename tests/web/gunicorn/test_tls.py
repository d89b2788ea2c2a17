"""TLS that ends in the worker: Python's own TLS keeps the socket, so the request's thread carries the bytes."""

from __future__ import annotations

import socket
import ssl
import subprocess
from contextlib import closing, suppress
from http.client import HTTPSConnection
from pathlib import Path
from threading import Thread

import pytest

from jobpush.store import Store
from jobpush.web.gunicorn.handover import _wait
from tests.gateway.client import TIMEOUT, data_of
from tests.gateway.conftest import Serve
from tests.gateway.publishing import publish, start

from .test_slow_senders import sockets


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """A key and a certificate that nobody has signed."""
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    subject = ["-subj", "/CN=localhost", "-days", "1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate]
    subprocess.run([*command, *subject], check=True, capture_output=True)
    return key, certificate


def test_connections_over_tls_are_served_completely(serve: Serve, store: Store, certificate: tuple[str, str]) -> None:
    key, cert = certificate
    site = serve("--keyfile", key, "--certfile", cert)
    context = ssl.create_default_context(cafile=cert)
    context.check_hostname = False
    clients = [site.sign_in("42", tls=context) for _ in range(3)]
    start(store, "42", "one")

    for number in range(1, 51):
        publish(store, "42", "one", number, message="x" * 5_000)
    store.trigger(["#server-to-user-42"], "end", {})

    for client in clients:
        *events, _ = client.receive_until(lambda message: message["event"] == "end")
        assert data_of(events[0])["state"] == "STARTED"
        assert data_of(events[-1])["current"] == 50


@pytest.mark.parametrize("who_has_gone", ["hub", "browser"])
def test_closed_peer_does_not_wake_the_other_direction(who_has_gone: str) -> None:
    """Else a thread would look for it all the time until the slow one has taken what is left for it."""
    (browser, browsers_end), (hub, hubs_end) = socket.socketpair(), socket.socketpair()
    gone, slow, slow_end = (hubs_end, browser, browsers_end) if who_has_gone == "hub" else (browsers_end, hub, hubs_end)
    with browser, browsers_end, hub, hubs_end:
        fill(slow)
        gone.close()
        left = {"to_browser" if slow is browser else "to_hub": b"what is left"}
        waiting = Thread(target=_wait, args=(browser, hub), kwargs={"to_hub": b"", "to_browser": b"", **left})
        waiting.start()

        waiting.join(0.2)
        assert waiting.is_alive()
        empty(slow_end)
        waiting.join()


def fill(end: socket.socket) -> None:
    """Send until there is no more room."""
    end.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            end.send(b"x" * 65_536)


def empty(end: socket.socket) -> None:
    """Read until nothing is left."""
    end.setblocking(False)
    with suppress(BlockingIOError):
        while end.recv(65_536):
            pass


def test_tls_connection_is_kept_alive(serve: Serve, certificate: tuple[str, str]) -> None:
    key, cert = certificate
    site = serve("--keyfile", key, "--certfile", cert)
    context = ssl.create_default_context(cafile=cert)
    context.check_hostname = False
    connection = HTTPSConnection("127.0.0.1", site.port, context=context, timeout=TIMEOUT)

    with closing(connection):
        statuses = []
        for _ in range(3):
            connection.request("GET", "/jobpush/health/live")
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)

    assert statuses == [200, 200, 200]


def test_silent_tls_sockets_hold_no_thread(serve: Serve, certificate: tuple[str, str]) -> None:
    key, cert = certificate
    site = serve("--keyfile", key, "--certfile", cert)
    context = ssl.create_default_context(cafile=cert)
    context.check_hostname = False

    with sockets(site, 50):
        client = site.connect(tls=context)

        assert client.receive()["event"] == "pusher:connection_established"
