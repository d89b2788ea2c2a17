"""TLS that ends in the worker: Python's own TLS keeps the socket, so the request's thread carries the bytes."""

from __future__ import annotations

import ssl
import subprocess
from contextlib import closing
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from jobpush.store import Store

from .client import TIMEOUT, data_of
from .conftest import Serve
from .publishing import publish, start
from .test_slow_senders import sockets


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """A key and a certificate that nobody has signed."""
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    subject = ["-subj", "/CN=localhost", "-days", "1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate]
    subprocess.run([*command, *subject], check=True, capture_output=True)
    return key, certificate


def test_connections_over_tls_are_served_whole(serve: Serve, store: Store, certificate: tuple[str, str]) -> None:
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


def test_a_connection_over_tls_is_kept_for_the_next_request(serve: Serve, certificate: tuple[str, str]) -> None:
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


def test_sockets_that_say_nothing_hold_no_thread_although_tls_hides_what_they_say(
    serve: Serve, certificate: tuple[str, str]
) -> None:
    key, cert = certificate
    site = serve("--keyfile", key, "--certfile", cert)
    context = ssl.create_default_context(cafile=cert)
    context.check_hostname = False

    with sockets(site, 50):
        client = site.connect(tls=context)

        assert client.receive()["event"] == "pusher:connection_established"
