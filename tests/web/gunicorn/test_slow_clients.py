"""Slow readers, slow bodies and idle sockets: handshakes and health checks still succeed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from jobpush.web.gunicorn import client_waits
from jobpush.web.gunicorn.client_waits import ClientWaits
from tests.effort import members, thorough
from tests.gateway.client import TIMEOUT, read_to_the_end
from tests.gateway.conftest import Serve, Site
from tests.gateway.web import request


def post(path: str, length: int, body: bytes = b"x") -> bytes:
    """Return the beginning of a request."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    return f"{head}Content-Length: {length}\r\n\r\n".encode() + body


@contextmanager
def attack(site: Site, number: int, beginning: bytes) -> Iterator[list[socket.socket]]:
    """Open sockets with a small receive buffer, send ``beginning``, and never read."""
    opened = []
    for _ in range(number):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        one.settimeout(TIMEOUT)
        one.connect(("127.0.0.1", site.port))
        one.setblocking(False)
        try:
            one.sendall(beginning)
        except BlockingIOError:
            pass  # the server has stopped reading
        opened.append(one)
    try:
        yield opened
    finally:
        for one in opened:
            one.close()


def ensure_served(site: Site) -> None:
    """Make handshakes and health checks; each must succeed."""
    for _ in range(5):
        client = site.connect()
        assert client.receive()["event"] == "pusher:connection_established"
        client.hang_up()
        assert request(site, "GET", "/jobpush/health/live")[0] == 200
        assert request(site, "GET", "/jobpush/health/ready")[0] == 200


def static_requests(site: Site) -> bytes:
    """Return 400 pipelined requests for the widget's script, which pages load by its hashed name."""
    _, page = request(site, "GET", "/page", is_json=False)
    path = page.partition('src="')[2].partition('"')[0]
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode() * 400


@pytest.mark.parametrize("number", members([6, 100]))
def test_slow_readers_block_no_handshake(site: Site, number: int) -> None:
    with attack(site, number, static_requests(site)):
        ensure_served(site)


@pytest.mark.parametrize(
    ("path", "length"),
    members(
        [
            ("/jobpush/auth", 16_000),
            ("/jobpush/tasks/one/cancel", 1_000_000),
            ("/page", 9),
            ("/apps/1/events", 1_000_000),
        ]
    ),
)
def test_slow_bodies_block_no_handshake(site: Site, path: str, length: int) -> None:
    with attack(site, 100, post(path, length)):
        ensure_served(site)


def test_idle_sockets_block_no_handshake(site: Site) -> None:
    ensure_served(site)

    with attack(site, 1_050, b""):
        ensure_served(site)


def test_all_attacks_at_once_block_no_handshake(site: Site) -> None:
    scripts = static_requests(site)

    with (
        attack(site, 20, scripts),
        attack(site, 20, post("/apps/1/events", 1_000_000)),
        attack(site, 50, post("/jobpush/auth", 16_000)),
        attack(site, 1_050, b""),
    ):
        ensure_served(site)


@thorough
def test_unread_response_has_one_deadline(serve: Serve) -> None:
    site = serve(request_timeout=1)

    with attack(site, 1, static_requests(site)) as (reader,):
        reader.settimeout(TIMEOUT)
        with pytest.raises(OSError):  # the server shuts the socket down
            while True:
                reader.send(b"GET /page HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 100)


def test_unsigned_request_is_refused_before_its_body_is_read(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.port), TIMEOUT) as one:
        one.sendall(post("/apps/1/events?auth_key=guessed", 1_000_000))
        answer = read_to_the_end(one)

    assert answer.startswith(b"HTTP/1.1 401")
    assert b"\r\nconnection: close\r\n" in answer.lower()  # a client would otherwise send its next request here


@pytest.mark.parametrize("chunks", [b"zz\r\n", b"1\r\nxyz", b"0\r\nno trailer"])
def test_malformed_chunked_body_is_a_bad_request(site: Site, chunks: bytes) -> None:
    head = b"POST /jobpush/auth HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"

    with socket.create_connection(("127.0.0.1", site.port), TIMEOUT) as one:
        one.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
        one.shutdown(socket.SHUT_WR)
        answer = read_to_the_end(one)

    assert answer.startswith(b"HTTP/1.1 400")


def test_body_sent_in_time_is_read_completely(site: Site) -> None:
    body = b"socket_id=1.2&channel_name=" + b"x" * 10_000

    with socket.create_connection(("127.0.0.1", site.port), TIMEOUT) as one:
        one.sendall(post("/jobpush/auth", len(body), body[:5_000]))
        one.sendall(body[5_000:])
        answer = one.recv(12)

    assert answer == b"HTTP/1.1 403"


# -- the bounds ------------------------------------------------------------------------------------------


class Waiting:
    """A client of a clock's own time."""

    def __init__(self, waits: ClientWaits, address: str | None, seconds: float = 10.0) -> None:
        self.ours, self.clients = socket.socketpair()
        waits.enter(self, self.ours, address, seconds)

    @property
    def is_disconnected(self) -> bool:
        self.clients.setblocking(False)
        try:
            return self.clients.recv(1) == b""
        except BlockingIOError:
            return False

    def close(self) -> None:
        self.ours.close()
        self.clients.close()


@pytest.fixture
def waiting() -> Iterator[list[Waiting]]:
    """The clients of a test; closed after it."""
    clients: list[Waiting] = []
    yield clients
    for client in clients:
        client.close()


def test_client_that_waits_longest_is_disconnected_beyond_the_bound_of_its_address(waiting: list[Waiting]) -> None:
    waits = ClientWaits()
    waiting.append(Waiting(waits, "192.0.2.1"))
    waiting.extend(Waiting(waits, "192.0.2.2") for _ in range(client_waits.MAX_WAITING_PER_ADDRESS + 1))

    assert [one.is_disconnected for one in waiting] == [False, True, *[False] * client_waits.MAX_WAITING_PER_ADDRESS]


def test_address_with_most_waiting_clients_loses_one_beyond_the_bound_of_the_process(waiting: list[Waiting]) -> None:
    waits = ClientWaits()
    waiting.extend(Waiting(waits, f"192.0.2.{number}") for number in range(10))
    waiting.extend(Waiting(waits, None) for _ in range(client_waits.MAX_WAITING - 9))

    assert [one.is_disconnected for one in waiting[:11]] == [False] * 10 + [True]


def test_wait_ends_at_its_deadline_and_not_before(waiting: list[Waiting]) -> None:
    now = 0.0
    waits = ClientWaits(lambda: now)
    waiting.extend((Waiting(waits, None, 1.0), Waiting(waits, None, 2.0), Waiting(waits, None, 1.0)))
    waits.leave(waiting[2])

    now = 1.5
    waits.expire()

    assert [one.is_disconnected for one in waiting] == [True, False, False]


def test_bounds_hold_from_many_threads(waiting: list[Waiting]) -> None:
    waits = ClientWaits()
    entered = threading.Barrier(8)

    def enter() -> None:
        entered.wait(TIMEOUT)
        waiting.extend(Waiting(waits, None) for _ in range(20))

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(not one.is_disconnected for one in waiting) == client_waits.MAX_WAITING
