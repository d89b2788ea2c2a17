"""The event loop without epoll, as on macOS, and the one sentence where there is no poll, as on Windows."""

from __future__ import annotations

import select
import socket
import subprocess
import sys

import pytest

from jobpush.config import Config
from jobpush.gateway.counters import Refusals
from jobpush.gateway.hub import Hub
from jobpush.gateway.loop import Loop
from jobpush.gateway.websocket import WebSocketConnection
from jobpush.protocol.handshake import new_socket_id
from jobpush.protocol.server import ServerProtocol
from jobpush.store import Store

from .client import TIMEOUT, frames_of


@pytest.fixture(params=["epoll", "poll"])
def platform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Linux, and a system without epoll."""
    if request.param == "poll":
        monkeypatch.delattr(select, "epoll")
    return str(request.param)


def test_hub_serves_a_connection(platform: str, redis_url: str, store: Store) -> None:
    config = Config(redis_url=redis_url, key="key", secret="secret", drain_timeout=0.1)
    hub = Hub(config, Refusals())
    hub.start()
    ours, theirs = socket.socketpair()
    with ours:
        ours.settimeout(TIMEOUT)
        theirs.setblocking(False)
        protocol = ServerProtocol(config, new_socket_id())
        hub.adopt(WebSocketConnection(hub, theirs.detach(), protocol), b"", protocol.open)
        ours.sendall(frames_of([("pusher:subscribe", {"channel": "news"})]))
        receive_until(ours, b"subscription_succeeded")
        store.trigger(["news"], "hello", {"n": 1})
        receive_until(ours, b'"event":"hello"')
    hub.stop()

    assert not hub.is_alive


def test_any_number_of_calls_from_other_threads_wakes_the_loop(platform: str) -> None:
    loop = Loop(lambda: None)
    calls: list[int] = []
    for number in range(100_000):
        assert loop.call_soon(lambda number=number: calls.append(number))  # type: ignore[misc]

    loop.run_once(0)
    loop.close()

    assert calls == list(range(100_000))
    assert not loop.call_soon(calls.clear)


@pytest.mark.parametrize("hidden", ["sys.modules['fcntl'] = None", "import select; del select.poll"])
def test_import_without_poll_or_fcntl_names_what_the_gateway_needs(hidden: str) -> None:
    program = f"import sys; {hidden}\nimport jobpush, jobpush.protocol.server\nfrom jobpush import Gateway"

    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("ImportError: The gateway of jobpush needs Linux or macOS")


def receive_until(connection: socket.socket, wanted: bytes) -> None:
    received = b""
    while wanted not in received:
        data = connection.recv(65_536)
        assert data, received
        received += data
