"""From the handshake to the first live event, and the refusal of invalid messages."""

from __future__ import annotations

import pytest
from wsproto.events import BytesMessage, Ping

from jobpush.store import Store
from jobpush.store.directory import RedisDirectory
from tests.effort import members
from tests.web.flask.test_routes import raw_stream

from .client import Client, data_of, events_of
from .conftest import Serve, Site
from .publishing import publish, start
from .site import KEY
from .web import request


def test_page_with_session_gets_snapshots_then_live_events(site: Site, store: Store) -> None:
    start(store, "42", "running")

    client = site.connect("42", client="jobpush")
    first = [client.receive() for _ in range(4)]
    publish(store, "42", "running", 3)
    live = client.receive()

    assert events_of(first) == [
        "pusher:connection_established",
        "pusher:signin_success",
        "pusher_internal:subscription_succeeded",
        "jobpush:task",
    ]
    assert first[2]["channel"] == "#server-to-user-42"
    assert [data_of(message)["seq"] for message in (first[3], live)] == [1, 2]
    assert data_of(live)["current"] == 3


def test_stock_client_gets_no_unrequested_signin_success(site: Site) -> None:
    client = site.connect("42", client="js")

    client.receive()
    answers = client.subscribe("#server-to-user-42")

    assert events_of(answers) == ["pusher_internal:subscription_succeeded"]


def test_page_without_session_receives_public_channels_only(site: Site, store: Store) -> None:
    client = site.connect(client="jobpush")

    established = client.receive()
    public = client.subscribe("news")
    private = client.subscribe("#server-to-user-42")

    assert established["event"] == "pusher:connection_established"
    assert events_of(public) == ["pusher_internal:subscription_succeeded"]
    assert events_of(private) == ["pusher:subscription_error"]
    assert private[0]["data"]["status"] == 401


def test_other_users_receive_nothing(site: Site, store: Store) -> None:
    alice, bob = site.sign_in("alice"), site.sign_in("bob")

    start(store, "alice", "hers")
    start(store, "bob", "his")

    assert data_of(alice.receive())["task_id"] == "hers"
    assert data_of(bob.receive())["task_id"] == "his"


def test_task_channel_carries_only_its_task_for_its_owner_only(site: Site, store: Store) -> None:
    start(store, "42", "one")
    start(store, "42", "two")
    owner, other = site.connect("42"), site.connect("43")

    joined = owner.subscribe("private-task-one")
    snapshot = owner.receive()
    refused = other.subscribe("private-task-one")
    unknown = other.subscribe("private-task-none")
    publish(store, "42", "two", 1)
    publish(store, "42", "one", 1)

    assert joined[-1]["event"] == "pusher_internal:subscription_succeeded"
    assert data_of(snapshot)["task_id"] == "one"
    assert [data_of(owner.receive())[name] for name in ("task_id",)] == ["one"]
    assert refused[-1]["data"]["error"] == unknown[-1]["data"]["error"]


def test_two_channels_of_one_topic_are_both_served(site: Site, store: Store) -> None:
    start(store, "42", "one")
    client = site.sign_in("42")
    client.receive()
    client.subscribe("private-task-one")
    client.receive()

    publish(store, "42", "one", 1)

    channels = {client.receive()["channel"] for _ in range(2)}
    assert channels == {"#server-to-user-42", "private-task-one"}


def test_excluded_socket_does_not_receive_its_own_event(site: Site, store: Store) -> None:
    store.trigger(["news"], "before", {})
    sender, hearer = site.connect(), site.connect()
    socket_id = data_of(sender.receive())["socket_id"]
    sender.subscribe("news")
    hearer.subscribe("news")

    store.trigger(["news"], "first", {}, exclude=socket_id)
    store.trigger(["news"], "second", {})

    assert sender.receive()["event"] == "second"
    assert [hearer.receive()["event"] for _ in range(2)] == ["first", "second"]


def test_unsubscribed_channel_is_silent(site: Site, store: Store) -> None:
    store.trigger(["news", "other"], "before", {})
    client = site.connect()
    client.subscribe("news")
    client.subscribe("other")

    client.send("pusher:unsubscribe", {"channel": "news"})
    client.send("pusher:ping")
    client.receive()
    store.trigger(["news", "other"], "after", {})

    assert client.receive()["channel"] == "other"


def test_receipt_counts_the_connections(site: Site, store: Store) -> None:
    clients = [site.sign_in("42") for _ in range(3)]

    receipt = store.trigger(["#server-to-user-42"], "hello", {})

    assert receipt.connections == len(clients)


def test_client_event_reaches_the_others_of_a_private_channel(site: Site, store: Store) -> None:
    start(store, "42", "one")
    sender, hearer = site.connect("42"), site.connect("42")
    for client in (sender, hearer):
        client.subscribe("private-task-one")
        client.receive()

    sender.send("client-typing", {"n": 1}, channel="private-task-one")

    message = hearer.receive()
    assert (message["event"], data_of(message)) == ("client-typing", {"n": 1})
    assert "id" not in message, "no history keeps it, so there is nothing to resume from"


def test_refused_handshake_gets_an_error_and_is_closed(site: Site) -> None:
    for options, code in (
        ({"key": "unknown"}, 4001),
        ({"protocol": ""}, 4008),
        ({"protocol": "x"}, 4006),
        ({"protocol": "99"}, 4007),
        ({"origin": "http://evil.example"}, 4009),
        ({"origin": "null"}, 4009),
    ):
        client = site.connect("42", **options)

        error = client.receive()

        assert (error["event"], error["data"]["code"]) == ("pusher:error", code), options
        assert client.wait_for_close() == code


def test_own_and_listed_origins_may_connect(site: Site, serve: Serve) -> None:
    listed = serve(allowed_origins="https://shop.example, http://localhost:3000")
    anybody = serve(allowed_origins="*")

    assert_established(site.connect(origin=f"http://127.0.0.1:{site.port}"))
    assert_established(listed.connect(origin="https://shop.example:443"))
    assert_established(anybody.connect(origin="http://evil.example"))
    assert_established(listed.connect(origin=f"http://127.0.0.1:{listed.port}"))
    assert listed.connect(origin="http://evil.example").wait_for_close() == 4009


def test_page_of_an_allowed_origin_may_read_the_event_stream(serve: Serve) -> None:
    """The hub writes the head of a stream, so flask-cors adds nothing to it."""
    listed, anybody = serve(allowed_origins="https://*.shop.example"), serve(allowed_origins="*")
    own = f"http://127.0.0.1:{listed.port}"

    for site, origin, allowed, credentials in (
        (listed, "https://a.shop.example", "https://a.shop.example", "true"),
        (listed, own, None, None),
        (anybody, "http://evil.example", "*", None),
    ):
        with raw_stream(site, "/jobpush/events", user="42", headers={"Origin": origin}) as response:
            headers = response.headers
            assert headers["Access-Control-Allow-Origin"] == allowed
            assert headers["Access-Control-Allow-Credentials"] == credentials
            assert (headers["Vary"] == "Origin") is (site is listed)


def test_tls_only_gateway_refuses_plain_connections(serve: Serve) -> None:
    site = serve(tls_only=True)

    for schemes in ("https", "https, http", "wss"):
        assert_established(site.connect(headers={"X-Forwarded-Proto": schemes}))
    for schemes in ("http", "http, https"):
        client = site.connect(headers={"X-Forwarded-Proto": schemes})
        assert client.receive()["data"]["code"] == 4000
        assert client.wait_for_close() == 4000


def test_client_that_does_not_answer_a_ping_is_closed(serve: Serve) -> None:
    site = serve(activity_timeout=1, pong_timeout=1)
    client = site.connect()

    client.receive_until(lambda message: message["event"] == "pusher:ping")

    assert client.receive()["data"]["code"] == 4201
    assert client.wait_for_close() == 4201


def test_half_open_socket_is_detected_and_no_longer_counted(serve: Serve, store: Store) -> None:
    """Its other end neither reads nor answers nor ends, as that of a laptop that was closed."""
    site = serve(activity_timeout=1, pong_timeout=1, grace=0)
    client = site.connect()
    client.subscribe("news")
    assert store.trigger(["news"], "item", {}).connections == 1

    witness = site.connect()
    while RedisDirectory(store).channels():
        assert witness.receive()["event"] != "pusher:error"  # it answers its pings, and is there to the end
        witness.send("pusher:pong")

    assert client.socket.recv(65_536).endswith(b"no reply was received"), "it got an error, and was then closed"


def test_bad_signature_is_refused_on_its_channel(site: Site) -> None:
    client = site.connect()
    client.receive()

    refused = client.subscribe("private-team", auth="278d425bdf160c739803:00")

    assert events_of(refused) == ["pusher:subscription_error"]
    assert refused[0]["data"]["status"] == 401


def test_invalid_json_leaves_the_connection_open(site: Site) -> None:
    client = site.connect()
    client.receive()

    client.send_text("{not json")
    error = client.receive()
    client.send("pusher:ping")

    assert error["event"] == "pusher:error"
    assert client.receive()["event"] == "pusher:pong"


def test_message_of_a_megabyte_closes_that_connection_only(site: Site, store: Store) -> None:
    other = site.sign_in("42")
    client = site.connect()
    client.receive()

    client.send_text("x" * 1_000_000)

    assert client.receive()["event"] == "pusher:error"
    assert client.wait_for_close() == 1009
    start(store, "42", "one")
    assert data_of(other.receive())["task_id"] == "one"


def test_binary_message_closes_the_connection(site: Site) -> None:
    client = site.connect()
    client.receive()

    client.send_event(BytesMessage(data=b"\0"))

    assert client.receive()["event"] == "pusher:error"
    assert client.wait_for_close() == 1003


def test_broken_frame_closes_the_connection(site: Site) -> None:
    client = site.connect()
    client.receive()

    client.socket.sendall(b"\x81\x05hello")  # not masked: RFC 6455, 5.1

    assert client.wait_for_close() == 1002


def test_control_frames_are_answered(site: Site) -> None:
    client = site.connect()
    client.receive()

    client.send_event(Ping(payload=b"there?"))

    assert client.wait_for_pong() == b"there?"


def test_message_in_fragments_is_one_message(site: Site) -> None:
    client = site.connect()
    client.receive()

    text = '{"event":"pusher:ping","data":{}}'
    for part in (text[:7], text[7:20]):
        client.send_fragment(part, is_last=False)
    client.send_fragment(text[20:], is_last=True)

    assert client.receive()["event"] == "pusher:pong"


def test_many_subscriptions_in_one_packet_are_all_answered(site: Site) -> None:
    client = site.connect()
    client.receive()

    for number in range(50):
        client.send("pusher:subscribe", {"channel": f"room-{number}"})

    assert [client.receive()["channel"] for _ in range(50)] == [f"room-{number}" for number in range(50)]


@pytest.mark.parametrize(
    ("lacking", "status"),
    members(
        [
            ({"Sec-WebSocket-Key": "short"}, 400),
            ({"Sec-WebSocket-Key": ""}, 400),
            ({"Upgrade": "h2c"}, 400),
            ({"Sec-WebSocket-Version": "8"}, 426),
        ]
    ),
)
def test_incomplete_handshake_request_is_refused(site: Site, lacking: dict[str, str], status: int) -> None:
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }

    answer, _ = request(site, "GET", f"/app/{KEY}?protocol=7", headers=headers | lacking, is_json=False)

    assert answer == status


def test_deflate_is_not_offered(site: Site) -> None:
    client = site.connect(offers_deflate=True)

    assert client.extensions == []


def test_websocket_route_of_the_host_application_still_works(site: Site) -> None:
    assert_established(site.connect())

    client = site.connect(path="/echo")
    client.send_text("hello")

    assert client.receive() == {"text": "hello"}


def assert_established(client: Client) -> None:
    assert client.receive()["event"] == "pusher:connection_established"
