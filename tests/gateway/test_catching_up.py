"""No gap and nothing twice: joining while others publish, resuming, and Redis going away and coming back."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from wsproto.events import Ping

from jobpush.channels import user_topic
from jobpush.events import RESYNC_EVENT
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.store import Store

from .client import data_of, events_of
from .conftest import Site
from .publishing import begin_workflow, finish, publish, start, start_member

JOINED = "pusher_internal:subscription_succeeded"


def test_clients_that_subscribe_during_events_see_rising_seq_and_the_end(site: Site, store: Store) -> None:
    tasks = [f"task-{number}" for number in range(5)]
    with publishing_thread(store, tasks):
        clients = [site.sign_in("42") for _ in range(30)]

    for client in clients:
        seen: dict[str, list[int]] = {task: [] for task in tasks}
        for message in client.receive_until(has_ended(tasks)):
            seen[data_of(message)["task_id"]].append(data_of(message)["seq"])
        for seqs in seen.values():
            assert seqs == sorted(set(seqs))


def test_events_after_a_subscription_arrive_exactly_once(site: Site, store: Store) -> None:
    store.trigger(["news"], "number", 0)
    stop = threading.Event()
    last = 0

    def publish_numbers() -> None:
        nonlocal last
        while not stop.is_set():
            last += 1
            store.trigger(["news"], "number", last)

    thread = threading.Thread(target=publish_numbers)
    thread.start()
    clients = []
    for _ in range(20):
        client = site.connect()
        client.subscribe("news")
        clients.append(client)
    stop.set()
    thread.join()
    store.trigger(["news"], "end", {})

    for client in clients:
        numbers = [int(m["data"]) for m in client.receive_until(lambda m: m["event"] == "end")[:-1]]
        assert numbers == list(range(last + 1 - len(numbers), last + 1))


def test_resume_replays_missed_events_once_and_in_order(site: Site, store: Store) -> None:
    start(store, "42", "one")
    first = site.sign_in("42")
    since = first.receive()["id"]
    first.hang_up()
    publish(store, "42", "one", 1)
    store.trigger(["#server-to-user-42"], "hello", {"n": 1})
    publish(store, "42", "one", 2)

    second = site.sign_in("42", since=since)
    missed = [second.receive() for _ in range(3)]
    publish(store, "42", "one", 3)

    assert events_of(missed) == ["jobpush:task", "hello", "jobpush:task"]
    assert [data_of(message)["seq"] for message in (missed[0], missed[2], second.receive())] == [2, 3, 4]


def test_workflow_member_is_delivered_on_its_own_channel_only(site: Site, store: Store) -> None:
    begin_workflow(store, "42", "album", members=2)
    start_member(store, "42", "photo", "album")
    whole, own = site.sign_in("42"), site.sign_in("42")
    own.subscribe("private-task-photo")

    start_member(store, "42", "photo", "album", percent=50.0)
    store.trigger(["#server-to-user-42"], "end", {})

    on_all = whole.receive_until(lambda message: message["event"] == "end")
    on_own = [m for m in own.receive_until(is_at(50.0)) if m.get("channel") == "private-task-photo"]
    assert {data_of(message)["task_id"] for message in on_all if message["event"] == "jobpush:task"} == {"album"}
    assert [data_of(m)["percent"] for m in on_own if m["event"] == "jobpush:task"][-1] == 50.0


def test_workflow_member_catches_up_by_its_snapshot(site: Site, store: Store) -> None:
    begin_workflow(store, "42", "album", members=2)
    start_member(store, "42", "photo", "album")
    first = site.sign_in("42")
    since = first.receive()["id"]
    start_member(store, "42", "photo", "album", percent=75.0)

    second = site.sign_in("42")
    second.subscribe("private-task-photo", since=since)

    messages = second.receive_until(is_at(75.0))
    assert "jobpush:resync" in events_of(messages)


def is_at(percent: float) -> Callable[[dict[str, Any]], bool]:
    return lambda message: (
        message.get("channel") == "private-task-photo"
        and message["event"] == "jobpush:task"
        and data_of(message)["percent"] == percent
    )


def test_resume_from_any_message_of_the_snapshots_loses_nothing(site: Site, store: Store) -> None:
    for task in ("one", "two", "three"):
        start(store, "42", task)
    store.trigger(["#server-to-user-42"], "before", {})

    client = site.connect("42", client="jobpush")
    messages = [client.receive() for _ in range(6)]

    assert [message.get("id") for message in messages[2:5]] == ["0-0", None, None]
    again = site.sign_in("42", since="0-0")
    assert again.receive()["event"] == "jobpush:resync"
    behind = site.sign_in("42", since=messages[5]["id"])
    store.trigger(["#server-to-user-42"], "after", {})
    assert behind.receive()["event"] == "after"


def test_resume_beyond_the_history_gives_resync_and_snapshots(site: Site, store: Store) -> None:
    start(store, "42", "one")

    client = site.sign_in("42", since="1-0")

    assert events_of([client.receive(), client.receive()]) == ["jobpush:resync", "jobpush:task"]


def test_cache_channel_delivers_its_last_event(site: Site, store: Store) -> None:
    client = site.connect()
    client.receive()

    client.subscribe("cache-empty")
    missed = client.receive()
    store.trigger(["cache-price"], "price", {"eur": 1})
    client.subscribe("cache-price")

    assert (missed["event"], missed["channel"]) == ("pusher:cache_miss", "cache-empty")
    assert client.receive()["event"] == "price"


def test_no_final_state_is_lost_when_redis_returns_empty(redis_server: EmbeddedRedis, site: Site, store: Store) -> None:
    start(store, "42", "one")
    client = site.sign_in("42")
    seq = data_of(client.receive())["seq"]

    redis_server.kill()
    redis_server.restart(keep_data=False)
    finish(store, "42", "one", seq=seq)

    messages = client.receive_until(lambda message: message["event"] == "jobpush:task")
    assert (data_of(messages[-1])["state"], data_of(messages[-1])["seq"]) == ("SUCCESS", 2)


def test_gap_is_reported_when_redis_restarts_with_its_data(
    redis_server: EmbeddedRedis, site: Site, store: Store
) -> None:
    store.trigger(["news"], "number", 0)
    client = site.connect()
    client.subscribe("news")
    store.trigger(["news"], "number", 1)

    redis_server.restart(keep_data=True)
    for number in range(2, 20):
        store.trigger(["news"], "number", number)

    # A restarted Redis may have lost the last events, so a resume from before is answered with resync.
    messages = client.receive_until(lambda message: message.get("data") == "19")
    before, after = split_at(RESYNC_EVENT, messages)
    assert [int(message["data"]) for message in before] == [1]
    assert [int(message["data"]) for message in after] == list(range(2, 20))


def split_at(event: str, messages: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the messages before and after the only one of an event."""
    (index,) = [index for index, message in enumerate(messages) if message["event"] == event]
    return messages[:index], messages[index + 1 :]


def test_client_connected_during_a_redis_outage_is_served_afterwards(
    redis_server: EmbeddedRedis, site: Site, store: Store
) -> None:
    site.sign_in("41")
    redis_server.kill()

    client = site.connect("42", client="jobpush")
    early = [client.receive(), client.receive()]
    redis_server.restart(keep_data=False)

    assert events_of(early) == ["pusher:connection_established", "pusher:signin_success"]
    assert client.receive()["event"] == JOINED
    start(store, "42", "one")
    assert data_of(client.receive())["task_id"] == "one"


def test_counts_are_restored_in_an_emptied_redis(redis_server: EmbeddedRedis, site: Site, store: Store) -> None:
    client = site.sign_in("42")

    redis_server.kill()
    redis_server.restart(keep_data=False)
    store.trigger(["#server-to-user-42"], "hello", {})
    client.receive_until(lambda message: message["event"] == "hello" or message["event"] == "jobpush:resync")

    assert store.trigger(["#server-to-user-42"], "hello", {}).connections == 1


def test_subscription_reply_precedes_simultaneous_live_events(site: Site, store: Store) -> None:
    first, second = site.connect(), site.connect()
    first.receive(), second.receive()
    first.subscribe("news")  # from now on the gateway is subscribed to the topic

    store.run([("CLIENT", "PAUSE", "500", "ALL")])
    second.send("pusher:subscribe", {"channel": "news"})
    for _ in range(2):  # with the second answer all is done that came before the first
        first.send_event(Ping())
        first.wait_for_pong()
    with stopped(site):  # the history waits for it, and then the event
        store.run([("PING",)])
        store.trigger(["news"], "number", 1)
        store.run([("PING",)])

    assert events_of([second.receive(), second.receive()]) == [JOINED, "number"]


def has_ended(tasks: list[str]) -> Any:
    """A test on messages that is true once SUCCESS of each task was among them."""
    left = set(tasks)

    def check(message: dict[str, Any]) -> bool:
        if data_of(message)["state"] == "SUCCESS":
            left.discard(data_of(message)["task_id"])
        return not left

    return check


@contextmanager
def stopped(site: Site) -> Iterator[None]:
    """Let a gateway stand still."""
    os.killpg(site.process.pid, signal.SIGSTOP)
    yield
    os.killpg(site.process.pid, signal.SIGCONT)


@contextmanager
def publishing_thread(store: Store, tasks: list[str]) -> Iterator[None]:
    """Publish progress as fast as Redis takes it, and the end of each task behind."""
    stop = threading.Event()

    def run() -> None:
        for task in tasks:
            start(store, "42", task)
        number = 0
        while not stop.is_set():
            number += 1
            publish(store, "42", tasks[number % len(tasks)], number)
        for task in tasks:
            finish(store, "42", task)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_overwritten_task_hides_no_other_from_a_browser(site: Site, store: Store) -> None:
    for task_id in ("one", "two", "three", "four"):
        start(store, "42", task_id)
    topic = user_topic("42")
    key_of = partial(store.keys.task, topic)
    store.run([("SET", key_of("one"), "garbage"), ("HSET", key_of("two"), "stable_json", b"\xff")])  # type: ignore[arg-type]
    store.run([("HSET", key_of("three"), "stable_json", 'a"b')])
    client = site.sign_in("42")
    store.run([("PUBLISH", store.keys.topic(topic), b'9-9 - 0 1 -\n"event":"news","data":"\xff"')])
    publish(store, "42", "four", 1)

    first, second = client.receive(), client.receive()

    assert [data_of(message)["task_id"] for message in (first, second)] == ["four", "four"]
