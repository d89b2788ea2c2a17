"""The limits of a gateway: refusals have Pusher's code and are counted by reason; other clients are unaffected."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack

import pytest

from jobpush.config import Config
from jobpush.errors import ConfigurationError
from jobpush.signing import user_auth
from jobpush.web.flask.limits import Flooded, Limits, TooManyHandshakes, TrustedProxies, descriptors_left
from tests.gateway.client import TIMEOUT, Client, data_of
from tests.gateway.conftest import Serve, Site
from tests.gateway.site import KEY, SECRET
from tests.gateway.web import scrape

from .test_routes import event_stream

OFFICE = {"X-Forwarded-For": "203.0.113.7"}
#: What a test's own connections need so that they come from the address they claim.
PROXIED = {"trusted_proxies": "127.0.0.1"}


def refused(site: Site, reason: str) -> float:
    """How many were."""
    return scrape(site)[f'jobpush_refusals_total{{reason="{reason}"}}']


def assert_reconnect_code(client: Client, words: str) -> None:
    """Source: pusher-js comes back after a second on 4100, and never on 4004."""
    error = client.receive()
    assert error["event"] == "pusher:error"
    refusal = error["data"] if isinstance(error["data"], dict) else json.loads(error["data"])
    assert refusal["code"] == 4100
    assert words in refusal["message"]
    assert client.wait_for_close() == 4100


# -- connections -----------------------------------------------------------------------------------------


def test_connections_beyond_the_limit_are_refused_with_a_retry_code_and_admitted_later(serve: Serve) -> None:
    site = serve(max_connections=2)
    first, second = site.sign_in("42"), site.sign_in("43")

    assert_reconnect_code(site.connect("44"), "there are 2 connections")
    first.hang_up()

    assert connect_until_let_in(site).received == []
    second.send("pusher:ping")
    assert second.receive()["event"] == "pusher:pong"
    assert refused(site, "too_many_connections") >= 1


def connect_until_let_in(site: Site) -> Client:
    """Retry as a client does after 4100; the hub sees a free place after a moment."""
    while True:
        client = site.connect("44")
        if client.receive()["event"] == "pusher:connection_established":
            return client
        client.wait_for_close()
        client.hang_up()


def test_event_streams_count_as_connections(serve: Serve) -> None:
    site = serve(max_connections=1)

    with event_stream(site, "/jobpush/events", user="42") as stream:
        assert next(stream)[1]["event"] == "pusher:connection_established"
        with event_stream(site, "/jobpush/events", user="42") as other:
            refusal = next(other)[1]
            assert (refusal["event"], list(other)) == ("pusher:error", [])
        assert_reconnect_code(site.connect("42"), "there are 1 connections")


def test_connections_of_a_user_beyond_the_limit_are_refused_with_a_retry_code(serve: Serve) -> None:
    site = serve(max_connections_per_user=2)
    clients = [site.sign_in("42") for _ in range(2)]

    by_session = site.connect("42", client="jobpush")
    by_signature = site.connect()
    socket_id = data_of(by_signature.receive())["socket_id"]
    user_data = '{"id":"42"}'
    by_signature.send("pusher:signin", {"auth": user_auth(KEY, SECRET, socket_id, user_data), "user_data": user_data})

    assert by_session.receive()["event"] == "pusher:connection_established"
    for client in (by_session, by_signature):
        assert_reconnect_code(client, "a user may have 2 connections")
        assert client.received == []
    site.sign_in("43")
    clients[0].send("pusher:ping")
    assert clients[0].receive()["event"] == "pusher:pong"
    assert refused(site, "too_many_connections_of_user") == 2


def test_connections_of_an_address_behind_a_trusted_proxy_are_limited(serve: Serve) -> None:
    site = serve(max_connections_per_address=2, **PROXIED)
    for _ in range(2):
        site.sign_in("42", headers=OFFICE)

    assert_reconnect_code(site.connect("43", headers=OFFICE), "an address may have 2 connections")
    # What the client writes itself stands left of what the proxy adds.
    forged = {"X-Forwarded-For": "198.51.100.1, 203.0.113.7"}
    assert_reconnect_code(site.connect("43", headers=forged), "an address may have 2 connections")
    site.sign_in("44", headers={"X-Forwarded-For": "203.0.113.8"})
    site.sign_in("45")  # the proxy itself, which looks after our health

    assert refused(site, "too_many_connections_of_address") == 2


def test_forwarded_address_of_an_untrusted_peer_is_ignored(serve: Serve) -> None:
    site = serve(max_connections_per_address=1, trusted_proxies="10.0.0.1")
    site.sign_in("42", headers={"X-Forwarded-For": "203.0.113.1"})

    assert_reconnect_code(site.connect("42", headers={"X-Forwarded-For": "203.0.113.2"}), "an address may have 1")


def test_local_peers_are_not_limited_without_a_trusted_proxy(serve: Serve) -> None:
    site = serve(max_connections_per_address=1, handshake_rate=1)

    for _ in range(5):
        site.sign_in("42", headers=OFFICE)

    assert scrape(site)["jobpush_connections"] == 5


def test_connection_that_fails_before_the_hand_over_frees_its_place(serve: Serve) -> None:
    site = serve(max_connections=1)

    for _ in range(3):
        unknown = site.connect(key="unknown")
        unknown.wait_for_close()
        unknown.hang_up()
        connect_until_let_in(site).hang_up()

    assert refused(site, "unknown_app") >= 1


def test_error_during_the_handshake_frees_its_place() -> None:
    limits = Limits(Config(max_connections=1))

    with pytest.raises(RuntimeError), limits.enter("203.0.113.7"):
        raise RuntimeError

    assert limits.enter("203.0.113.7").refusal is None


def test_without_a_limit_connections_are_bounded_by_descriptors() -> None:
    assert 0 < descriptors_left() < 2**40


def test_flood_of_refused_connections_gets_a_bare_503(serve: Serve) -> None:
    site = serve(max_connections=1)
    site.sign_in("42")

    with ExitStack() as stack:
        sockets = []
        for _ in range(300):
            raw = stack.enter_context(socket.create_connection(("127.0.0.1", site.port), timeout=TIMEOUT))
            raw.sendall(handshake())  # at once: idle connections of one address are few
            sockets.append(raw)
        # Each client with a refusal leaves the close unanswered, and so is held for some seconds.
        answers = [raw.recv(12) for raw in sockets]

    assert set(answers) == {b"HTTP/1.1 101", b"HTTP/1.1 503"}
    assert refused(site, "over_capacity") == answers.count(b"HTTP/1.1 503")
    assert refused(site, "too_many_connections") == answers.count(b"HTTP/1.1 101")


def handshake() -> bytes:
    """A WebSocket's, with the sample nonce of RFC 6455."""
    lines = (
        f"GET /app/{KEY}?protocol=7 HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    )
    return "\r\n".join((*lines, "", "")).encode()


# -- rates -----------------------------------------------------------------------------------------------


def test_handshakes_of_an_address_are_limited(serve: Serve) -> None:
    site = serve(handshake_rate=0.01, **PROXIED)
    site.sign_in("42", headers=OFFICE)

    for _ in range(2):
        assert_reconnect_code(site.connect("42", headers=OFFICE), "connects too often")
    site.sign_in("42", headers={"X-Forwarded-For": "203.0.113.8"})

    assert refused(site, "too_many_handshakes") == 2


def test_rate_of_an_address_recovers_over_time() -> None:
    now = 0.0
    limits = Limits(Config(handshake_rate=2), clock=lambda: now)

    def attempts(count: int) -> list[bool]:
        return [limits.enter("203.0.113.7").refusal is None for _ in range(count)]

    assert attempts(6) == [True] * 4 + [False] * 2
    now = 1.0
    assert attempts(3) == [True] * 2 + [False]
    assert isinstance(limits.enter("203.0.113.7").refusal, TooManyHandshakes)
    assert limits.enter("203.0.113.8").refusal is None
    now = 1000.0
    assert attempts(6) == [True] * 4 + [False] * 2


def test_memory_of_rates_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobpush.web.flask.limits._MAX_ADDRESSES", 10)
    limits = Limits(Config())

    for number in range(50):
        limits.enter(f"203.0.113.{number}")()

    assert (len(limits._allowances), len(limits._addresses)) == (10, 0)


def test_messages_of_a_connection_are_limited(serve: Serve) -> None:
    site = serve(message_rate=1, max_channels=5)  # fifteen in ten seconds
    quiet, loud = site.connect(), site.connect()
    for client in (quiet, loud):
        client.receive()

    for _ in range(16):
        loud.send("pusher:ping")

    assert [message["event"] for message in (loud.receive() for _ in range(15))] == ["pusher:pong"] * 15
    assert_reconnect_code(loud, "too many messages")
    quiet.send("pusher:ping")
    assert quiet.receive()["event"] == "pusher:pong"
    assert refused(site, "too_many_messages") == 1


def test_control_frames_count_as_messages(serve: Serve) -> None:
    from wsproto.events import Ping

    site = serve(message_rate=1, max_channels=5)
    client = site.connect()
    client.receive()

    for _ in range(20):
        client.send_event(Ping())

    assert_reconnect_code(client, "too many messages")


# -- sizes and time --------------------------------------------------------------------------------------


def test_subscriptions_of_a_connection_are_limited(serve: Serve) -> None:
    site = serve(max_channels=2)
    client = site.connect()
    client.receive()

    answers = [client.subscribe(f"news-{number}")[-1] for number in range(3)]

    assert [answer["event"] for answer in answers] == [
        "pusher_internal:subscription_succeeded",
        "pusher_internal:subscription_succeeded",
        "pusher:subscription_error",
    ]
    assert answers[-1]["data"]["status"] == 429
    assert refused(site, "subscription_limit_reached") == 1


@pytest.mark.parametrize("in_parts", [False, True])
def test_oversized_message_is_refused_in_one_frame_or_many(serve: Serve, in_parts: bool) -> None:
    site = serve(max_message=1000)
    client = site.connect()
    client.receive()

    if in_parts:
        for _ in range(3):
            client.send_fragment("x" * 400, is_last=False)
    else:
        client.send_text("x" * 1001)

    assert client.receive()["data"]["code"] == 4300
    assert client.wait_for_close() == 1009
    assert refused(site, "message_too_big") == 1


def test_client_that_neither_signs_in_nor_subscribes_in_time_is_closed(serve: Serve) -> None:
    site = serve(signin_timeout=0.5)
    signed_in, stranger = site.sign_in("42"), site.connect()
    stranger.receive()
    stranger.subscribe("news")  # which needs no authorisation, and so proves nothing

    assert stranger.receive()["data"]["code"] == 4009
    assert stranger.wait_for_close() == 4009
    signed_in.send("pusher:ping")
    assert signed_in.receive()["event"] == "pusher:pong"
    assert refused(site, "signin_timeout") == 1


# -- addresses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded_for", "client"),
    [
        # no proxy is trusted: the header is ignored, and local peers may be proxies
        ("", "8.8.8.8", "203.0.113.7", "8.8.8.8"),
        ("", "127.0.0.1", "203.0.113.7", None),
        ("", "10.1.2.3", "", None),
        ("", "", "203.0.113.7", None),
        ("", "::1", "", None),
        # a proxy vouches for the one before it
        ("10.0.0.0/8", "10.1.2.3", "203.0.113.7", "203.0.113.7"),
        ("10.0.0.0/8", "10.1.2.3", "1.1.1.1, 203.0.113.7", "203.0.113.7"),
        ("10.0.0.0/8", "10.1.2.3", "1.1.1.1, 203.0.113.7, 10.9.9.9", "203.0.113.7"),
        ("10.0.0.0/8", "10.1.2.3", "203.0.113.7:4711", "203.0.113.7"),
        ("10.0.0.0/8", "10.1.2.3", "unknown", None),
        ("10.0.0.0/8", "10.1.2.3", "", None),
        ("10.0.0.0/8", "192.168.1.1", "203.0.113.7", "192.168.1.1"),
        ("unix", "", "203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "", "203.0.113.7", None),
        # a customer of IPv6 has a network, and IPv4 may come as IPv6
        ("::1", "::1", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::1", "::1", "[2001:db8:1:2::9]:443", "2001:db8:1:2::/64"),
        ("127.0.0.1", "::ffff:127.0.0.1", "::ffff:203.0.113.7", "203.0.113.7"),
    ],
)
def test_address_of_a_client(trusted: str, peer: str, forwarded_for: str, client: str | None) -> None:
    proxies = TrustedProxies([trusted] if trusted else [])

    assert proxies.client_of(peer, forwarded_for) == client


def test_invalid_proxy_address_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match="JOBPUSH_TRUSTED_PROXIES must be.*'proxy.example'"):
        TrustedProxies(["proxy.example"])


def test_a_hundred_connections_are_refused_with_a_reason_at_once() -> None:
    limits = Limits(Config(max_connections=1))
    limits.enter(None)
    refused = [limits.enter(None) for _ in range(100)]
    assert all(place.refusal for place in refused)

    with pytest.raises(Flooded):
        limits.enter(None)
    refused[0]()

    assert limits.enter(None).refusal
