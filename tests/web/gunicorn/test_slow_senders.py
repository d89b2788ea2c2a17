"""Who sends a request or a message slowly, or never to its end, holds neither a thread nor memory for long."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.autobahn.cases import CONTINUATION, TEXT, connected, fragments, frame, message, ping
from tests.effort import members, thorough
from tests.gateway.client import TIMEOUT, read_to_the_end
from tests.gateway.conftest import Serve, Site
from tests.gateway.site import KEY
from tests.gateway.web import request

HEAD = f"GET /app/{KEY}?protocol=7 HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: web".encode()
BODY = (
    b"POST /jobpush/auth HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: 100\r\n\r\nsocket_id=1"
)
ENDLESS = (
    b"POST /jobpush/auth HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    b"Content-Length: 999999999999\r\n\r\n"
)
API = b"POST /apps/1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n{"
POST = b"POST /jobpush/auth HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n"


@contextmanager
def sockets(site: Site, number: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection(("127.0.0.1", site.port), TIMEOUT)) for _ in range(number)]


@pytest.mark.parametrize(
    "beginning",
    members([b"", b"G", POST + HEAD, HEAD]),
    ids=members(["nothing", "one byte", "half a second head", "half a head"]),
)
def test_silent_sockets_hold_no_thread(serve: Serve, beginning: bytes) -> None:
    site = serve(request_timeout=3600)
    request(site, "GET", "/jobpush/health/live")

    with sockets(site, 50) as slow:
        for one in slow:
            one.sendall(beginning)
        status, _ = request(site, "GET", "/jobpush/health/live")

    assert status == 200


def test_request_head_in_pieces_is_served(site: Site) -> None:
    whole = HEAD + b"socket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    whole += b"Sec-WebSocket-Version: 13\r\n\r\n"

    with sockets(site, 1) as (slow,):
        slow.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in whole:
            slow.sendall(bytes((byte,)))
        answer = slow.recv(12)

    assert answer == b"HTTP/1.1 101"


@pytest.mark.parametrize(
    "beginning",
    members([b"", HEAD, BODY, API, POST + HEAD, ENDLESS]),
    ids=members(["nothing", "head", "body", "body of the API", "second head", "body of ages"]),
)
def test_endless_request_is_cut_off(serve: Serve, beginning: bytes) -> None:
    site = serve("--keep-alive", "1", request_timeout=1)

    with sockets(site, 5) as slow:
        for one in slow:
            one.sendall(beginning)
        for one in slow:
            read_to_the_end(one)

    assert request(site, "GET", "/jobpush/health/live")[0] == 200


@pytest.mark.parametrize(
    "application",
    members(["tests.gateway.site:create_app(request_timeout=2.5)", "tests.web.gunicorn.wrapped:hidden()"]),
)
def test_request_head_has_its_own_timeout(serve: Serve, application: str) -> None:
    """Counted from its beginning, though it has gone on meanwhile, and so waits behind another that began later."""
    site = serve("--keep-alive", "1", request_timeout=1, application=application)
    request(site, "GET", "/jobpush/health/live")  # it has booted
    begun = time.monotonic()

    with sockets(site, 1) as (first,):
        first.sendall(HEAD)
        assert select.select([first], [], [], 2)[0] == []
        with sockets(site, 1) as (second,):
            second.sendall(HEAD)
            first.sendall(b"s")
            cut_off = select.select([first, second], [], [], TIMEOUT)[0]

    assert cut_off == [first]
    assert time.monotonic() - begun > 2.5


def test_clients_that_stay_connected_after_the_response_block_no_other(serve: Serve) -> None:
    """
    gunicorn itself waits two seconds for each of them, in the thread that accepts connections and sends the heartbeat.
    """
    site = serve("--timeout", "3")
    other = site.connect()
    other.receive()

    with sockets(site, 20) as finished:
        for one in finished:
            one.sendall(b"GET /jobpush/health/live HTTP/1.0\r\n\r\n")
        for one in finished:
            assert read_to_the_end(one).startswith(b"HTTP/1.0 200")
        late = site.connect()
        late.receive()
        late.send("pusher:ping")
        other.send("pusher:ping")

    assert [late.receive()["event"], other.receive()["event"]] == ["pusher:pong"] * 2


def test_unread_input_does_not_drop_the_response_of_a_socket_route(site: Site) -> None:
    answer = b""

    with sockets(site, 1) as (one,):
        one.sendall(b"GET /own HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" + b"x" * 30_000)
        while part := one.recv(65_536):  # a connection that is reset raises, if it does not lose the answer as well
            answer += part

    assert answer == b"HTTP/1.0 200 OK\r\n\r\nall of it"


def test_slow_request_head_is_cut_off(serve: Serve) -> None:
    site = serve(request_timeout=1)

    with sockets(site, 1) as (slow,):
        slow.sendall(HEAD)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(1_000):
                slow.sendall(b"x")
                time.sleep(0.02)  # this is what a slow sender does


@pytest.mark.parametrize("beginning", members([frame(TEXT, b'{"ev', size=100), frame(TEXT, b'{"ev', fin=False)]))
def test_endless_message_closes_its_connection(serve: Serve, beginning: bytes) -> None:
    site = serve(message_timeout=1)

    with connected(site.port) as peer:
        peer.send(beginning)
        received = peer.receive()

    assert received == ("close", 1008)


def test_endless_fragments_and_pings_close_the_connection(serve: Serve) -> None:
    """Fragments and pings keep coming, and none of them is the last."""
    site = serve(message_timeout=1, message_rate=0)

    with connected(site.port) as peer:
        peer.send(fragments([b"{", b"}"])[0])
        received = peer.receive_after(ping(b"?") + frame(CONTINUATION, fin=False))

    assert received == ("close", 1008)


@thorough
def test_messages_in_quick_succession_are_not_taken_for_one(serve: Serve) -> None:
    """The last byte of each comes with the first one of the next."""
    site = serve(message_timeout=1)
    whole = frame(TEXT, message())

    with connected(site.port) as peer:
        peer.send(whole[:1])
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            peer.send(whole[1:] + whole[:1])
            assert peer.receive() == ("event", "pusher:pong")
            time.sleep(0.05)  # the client has its own pace
