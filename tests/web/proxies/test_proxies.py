"""The proxy files of ``docker/``, in front of a gateway: sockets, streams, addresses and slow clients."""

from __future__ import annotations

import http.client
import os
import random
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from jobpush.processes.child import ChildProcess
from jobpush.store import Store
from tests.gateway.client import TIMEOUT, Client, data_of
from tests.gateway.conftest import Serve
from tests.gateway.publishing import start
from tests.gateway.site import KEY
from tests.web.flask.test_routes import read_events

DOCKER = Path(__file__).parents[3] / "docker"
#: Debian's nginx needs a main configuration, and folders of its own.
MAIN = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  {server}
}}
"""


class Proxy:
    """A proxy that runs, and a context that trusts it."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self.port = port
        self.context = context
        self._opened = ExitStack()

    def open(self) -> ssl.SSLSocket:
        """Connect with TLS."""
        plain = socket.create_connection(("127.0.0.1", self.port), TIMEOUT)
        opened = self.context.wrap_socket(plain, server_hostname="127.0.0.1")
        self._opened.callback(opened.close)
        return opened

    def get(self, path: str, *, source: str = "127.0.0.1", **headers: str) -> http.client.HTTPResponse:
        """Send a request from an address."""
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=TIMEOUT, context=self.context, source_address=(source, 0)
        )
        self._opened.callback(connection.close)
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        self._opened.callback(response.close)
        return response

    def connect(self, **options: Any) -> Client:
        """Open a WebSocket."""
        client = Client(self.port, tls=self.context, origin=f"https://127.0.0.1:{self.port}", **options)
        self._opened.callback(client.hang_up)
        return client

    def close(self) -> None:
        """Close everything that was opened."""
        self._opened.close()


def port_outside_the_ephemeral_range() -> int:
    """Return a free port outside the range from which the kernel assigns client ports."""
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as one, suppress(OSError):
            one.bind(("", port))
            return port


@contextmanager
def proxied(kind: str, gateway_port: int, folder: Path) -> Iterator[Proxy]:
    """Run a proxy with its own file, in which only the addresses differ."""
    port = port_outside_the_ephemeral_range()
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    context = ssl.create_default_context()
    context.check_hostname = False  # the clients of the tests name no host
    authority.configure_trust(context)
    text = (DOCKER / {"nginx": "nginx.conf", "caddy": "Caddyfile"}[kind]).read_text()
    text = text.replace("127.0.0.1:8443", f"127.0.0.1:{port}").replace("127.0.0.1:8001", f"127.0.0.1:{gateway_port}")
    (folder / "proxy.conf").write_text(MAIN.format(server=text) if kind == "nginx" else text)
    arguments = {
        "nginx": ["-p", str(folder), "-c", "proxy.conf"],
        "caddy": ["run", "--adapter", "caddyfile", "--config", str(folder / "proxy.conf")],
    }[kind]
    if kind == "caddy":
        (folder / "proxy.conf").write_text(text.replace("server.pem", str(folder / "server.pem")))
    program = shutil.which(kind, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/bin")
    assert program is not None, f"{kind} is not installed"
    log = folder / "proxy.log"
    environment = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    process = ChildProcess([program, *arguments], log=log, environment=environment)
    deadline = time.monotonic() + TIMEOUT
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.is_running and time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
        running = Proxy(port, context)
        yield running
        running.close()
    finally:
        process.kill()


@pytest.fixture(params=["nginx", "caddy"])
def proxy(request: pytest.FixtureRequest, serve: Serve, tmp_path: Path) -> Iterator[Proxy]:
    """Each of the proxies, in front of a gateway that trusts it."""
    site = serve(trusted_proxies="127.0.0.1", max_connections_per_address=3, tls_only="true")
    with proxied(request.param, site.port, tmp_path) as proxy:
        yield proxy


def test_sockets_streams_and_address_limits_work_behind_the_proxy(proxy: Proxy, store: Store) -> None:
    client = proxy.connect(user="42", client="jobpush")
    client.receive_until(lambda message: message["event"] == "pusher_internal:subscription_succeeded")
    stream = read_events(proxy.get("/jobpush/events", Cookie="user=42"))
    while next(stream)[1]["event"] != "pusher_internal:subscription_succeeded":
        pass

    start(store, "42", "one")

    assert data_of(client.receive())["task_id"] == "one"
    assert data_of(next(stream)[1])["task_id"] == "one"
    assert proxy.get("/jobpush/tasks", Cookie="user=42", Origin=f"http://127.0.0.1:{proxy.port}").status == 403
    streams = [read_events(proxy.get("/jobpush/events", source="127.0.0.2")) for _ in range(4)]
    events = [next(one)[1]["event"] for one in streams]
    assert events == ["pusher:connection_established"] * 3 + ["pusher:error"]


def test_proxy_absorbs_slow_request_heads(proxy: Proxy) -> None:
    slow = [proxy.open() for _ in range(200)]
    for one in slow:
        one.sendall(f"GET /app/{KEY}?protocol=7 HTTP/1.1\r\nHost: a\r\nUp".encode())

    assert proxy.get("/jobpush/health/live").status == 200
    assert proxy.get("/jobpush/health/ready").status == 200
