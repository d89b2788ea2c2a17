"""Greedy clients: they wait, are refused, and leave nothing behind."""

from __future__ import annotations

import json
import resource
import socket
import threading
from pathlib import Path

from wsproto.events import Ping

from jobpush.events import RESYNC_EVENT
from jobpush.gateway.history import replay_bound
from jobpush.gateway.outbox import Outbox
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.store import Store
from jobpush.store.directory import RedisDirectory
from tests.faults.processes import paused

from .client import TIMEOUT, Client, data_of, events_of, frames_of
from .conftest import Serve, Site
from .test_slow_readers import RECEIVE_BUFFER


def test_client_that_does_not_read_its_replies_is_not_read(serve: Serve, store: Store) -> None:
    site = serve(outbox_size=10_000, message_rate=0)
    greedy, other = site.connect(receive_buffer=RECEIVE_BUFFER), site.connect()
    greedy.receive()
    asking = threading.Thread(target=ask_and_join, args=(greedy, 20_000, "greedy"))
    asking.start()

    ping(other, times=500)  # each answer is at least one turn of the hub, in which it would read on

    assert store.trigger(["greedy"], "hello", {}).connections == 0
    answers = greedy.receive_until(lambda message: message.get("channel") == "greedy")
    asking.join()
    assert events_of(answers) == ["pusher:pong"] * 20_000 + ["pusher_internal:subscription_succeeded"]
    assert store.trigger(["greedy"], "hello", {}).connections == 1


def test_ten_thousand_subscriptions_disturb_no_other_and_leave_nothing(serve: Serve, store: Store) -> None:
    site = serve(grace=0, message_rate=0)  # else it would be closed before it is refused
    greedy, other = site.connect(), site.connect()
    greedy.receive()
    asking = threading.Thread(target=subscribe, args=(greedy, 10_000))
    asking.start()

    ping(other, times=100)
    answers = [greedy.receive() for _ in range(10_000)]
    asking.join()

    joined = [message for message in answers if message["event"] == "pusher_internal:subscription_succeeded"]
    refused = [message["data"] for message in answers if message["event"] == "pusher:subscription_error"]
    assert [message["channel"] for message in joined] == [f"channel-{number}" for number in range(1_000)]
    assert len(refused) == 9_000
    assert {(data["type"], data["status"], data["error"]) for data in refused} == {
        ("LimitReached", 429, "A connection may have 1000 channels")
    }
    assert len(RedisDirectory(store).channels()) == 1_000
    greedy.hang_up()
    wait_until_nobody_is_anywhere(site, store)


def test_replays_of_a_client_that_does_not_read_use_little_memory(serve: Serve, store: Store) -> None:
    site = serve(message_rate=0)
    other = site.connect()
    store.trigger(["news"], "first", {})  # before it there is no position that a history holds
    since = position_of("news", other)
    for number in range(900):
        store.trigger(["news"], "number", {"n": number, "padding": "x" * 2_000})
    greedy = site.connect(receive_buffer=RECEIVE_BUFFER)
    before = memory_of(site)
    messages: list[tuple[str, object]] = [
        ("pusher:subscribe", {"channel": "news", "since": since}),
        ("pusher:unsubscribe", {"channel": "news"}),
    ]
    asking = threading.Thread(target=greedy.socket.sendall, args=(frames_of(messages * 100),))

    asking.start()
    ping(other, times=300)

    assert memory_of(site) - before < 30_000_000  # one replay has 2 MB; 100 of them had 200 MB
    last = [("pusher:subscribe", {"channel": "last"})]
    asking.join()
    greedy.socket.sendall(frames_of(last))
    greedy.receive_until(lambda message: message.get("channel") == "last")


def test_unsubscribe_drops_queued_events() -> None:
    outbox = Outbox()
    outbox.put(b"pong")
    outbox.put_history(b"history", b"news")
    outbox.put(b"pinned", b"news")
    outbox.replace((b"news", b"task"), b"snapshot")
    outbox.put(b"another", b"news-2")
    outbox.replace((b"news-2", b"task"), b"snapshot")

    assert outbox.drop_channel(b"news") == 3
    assert outbox.size == len(b"pong" + b"another" + b"snapshot")
    assert outbox.drop_frames() == 3


def test_replays_of_all_connections_share_a_bound() -> None:
    bounds: list[int] = []
    for _ in range(1_000):
        bounds.append(replay_bound(sum(bounds), 1))

    assert bounds[0] == 4_194_304
    assert sum(bounds) < 268_435_456
    assert bounds[300] > 30_000  # clients that read nothing leave something for the others
    assert replay_bound(0, 1_000) < 4_195


def test_replay_beyond_the_bound_is_cut_and_followed_by_resync(serve: Serve, store: Store) -> None:
    site = serve(max_data=10_240)
    first = site.connect()
    since = first.subscribe("news")[-1]["id"]
    for number in range(600):
        store.trigger(["news"], "number", {"n": number, "padding": "x" * 10_000})

    second = site.connect()
    second.subscribe("news", since=since)
    resync = second.receive()
    events = second.receive_until(lambda message: data_of(message)["n"] == 599)

    assert resync["event"] == RESYNC_EVENT
    assert [data_of(message)["n"] for message in events] == list(range(600 - len(events), 600))
    assert 3_000_000 < sum(len(message["data"]) for message in events) < 4_194_304


def test_pings_are_answered_during_a_pending_subscription_and_other_messages_keep_their_order(
    serve: Serve, redis_server: EmbeddedRedis
) -> None:
    client = serve(max_message=1_000).connect()
    client.receive()

    with paused([redis_server.pid]):
        client.send("pusher:subscribe", {"channel": "first"})
        client.send("unknown")
        client.send("pusher:subscribe", {"channel": "second"})
        client.send_event(Ping(payload=b"there?"))
        client.send("pusher:ping")
        assert client.receive()["event"] == "pusher:pong"
        assert client.pongs == [b"there?"]
        client.send_text("x" * 2_000)  # more than is allowed, and nothing is read behind it

    answers = [client.receive() for _ in range(4)]
    assert [(answer["event"], answer.get("channel")) for answer in answers] == [
        ("pusher_internal:subscription_succeeded", "first"),
        ("pusher:error", None),
        ("pusher_internal:subscription_succeeded", "second"),
        ("pusher:error", None),
    ]
    assert client.wait_for_close() == 1009


def test_invalid_close_during_a_pending_subscription_is_reported_as_invalid(
    serve: Serve, redis_server: EmbeddedRedis
) -> None:
    client = serve().connect()
    client.receive()

    with paused([redis_server.pid]):
        client.send("pusher:subscribe", {"channel": "first"})
        client.socket.sendall(bytes((0x88, 0x82, 0, 0, 0, 0)) + (1005).to_bytes(2, "big"))
    answer = client.receive()

    assert (answer["event"], answer["channel"]) == ("pusher_internal:subscription_succeeded", "first")
    assert client.wait_for_close() == 1002


def test_messages_during_a_pending_subscription_are_held_back_and_not_lost(
    serve: Serve, redis_server: EmbeddedRedis
) -> None:
    site = serve(message_rate=0)
    greedy, other = site.connect(), site.connect()
    greedy.receive()
    greedy.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    messages = [("pusher:subscribe", {"channel": "first"})] + [(f"unknown-{n}", "x" * 50) for n in range(20_000)]

    with paused([redis_server.pid]):
        unsent = send_until_nobody_reads(greedy, frames_of(messages), other)
    assert unsent
    speaking = threading.Thread(target=greedy.socket.sendall, args=(unsent,))
    speaking.start()
    answers = [greedy.receive() for _ in range(20_001)]
    speaking.join()

    assert events_of(answers) == ["pusher_internal:subscription_succeeded"] + ["pusher:error"] * 20_000
    assert [json.dumps(answer["data"]).split("'")[1] for answer in answers[1:]] == [event for event, _ in messages[1:]]


def test_flood_of_pings_during_a_pending_subscription_is_limited(serve: Serve, redis_server: EmbeddedRedis) -> None:
    site = serve(message_rate=1, max_channels=5)
    client = site.connect()
    client.receive()

    with paused([redis_server.pid]):
        client.send("pusher:subscribe", {"channel": "first"})
        for _ in range(20):
            client.send_event(Ping())
        assert client.wait_for_close() == 4100


def position_of(channel: str, client: Client) -> str:
    """The id from which a client can resume, after a short visit."""
    position: str = client.subscribe(channel)[-1]["id"]
    client.send("pusher:unsubscribe", {"channel": channel})
    ping(client, times=1)
    return position


def memory_of(site: Site) -> int:
    """Resident bytes of the worker process."""
    (child,) = Path(f"/proc/{site.process.pid}/task/{site.process.pid}/children").read_text().split()
    return int(Path(f"/proc/{child}/statm").read_text().split()[1]) * resource.getpagesize()


def ask_and_join(client: Client, questions: int, channel: str) -> None:
    """Many pings, then a subscription; blocks while the gateway does not read."""
    client.socket.settimeout(None)
    client.send_all([("pusher:ping", {})] * questions + [("pusher:subscribe", {"channel": channel})])


def subscribe(client: Client, channels: int) -> None:
    """To many channels, one after the other."""
    client.send_all([("pusher:subscribe", {"channel": f"channel-{number}"}) for number in range(channels)])


def ping(client: Client, *, times: int) -> None:
    """Ask, and wait for the answer."""
    for _ in range(times):
        client.send("pusher:ping")
        while client.receive()["event"] != "pusher:pong":
            pass


def send_until_nobody_reads(client: Client, data: bytes, witness: Client) -> bytes:
    """What is left when the socket takes no more, in many turns of the hub: each answer is at least one."""
    turns = 0
    client.socket.setblocking(False)
    while data and turns < 200:
        try:
            data, turns = data[client.socket.send(data) :], 0
        except BlockingIOError:
            ping(witness, times=1)
            turns += 1
    client.socket.settimeout(TIMEOUT)
    return data


def wait_until_nobody_is_anywhere(site: Site, store: Store) -> None:
    """Wait until Redis lists no channel any more; the timeout of the client ends a test that never gets there."""
    directory = RedisDirectory(store)
    witness = site.connect()
    while directory.channels():
        ping(witness, times=1)
