"""A browser that does not read costs nobody else anything, and gets what is newest when it reads again."""

from __future__ import annotations

from jobpush.store import Store

from .client import data_of
from .conftest import Serve
from .publishing import finish, publish, start

#: Bytes; with it, what the kernels hold for a connection is small beside what is published.
RECEIVE_BUFFER = 4_096


def test_slow_reader_gets_the_newest_of_each_task_and_nothing_pinned_is_missing(serve: Serve, store: Store) -> None:
    site = serve(outbox_size=200_000)
    slow, quick = site.sign_in("42", receive_buffer=RECEIVE_BUFFER), site.sign_in("42")
    tasks = [f"task-{number}" for number in range(5)]
    for task in tasks:
        start(store, "42", task)

    for number in range(1, 2_001):
        publish(store, "42", tasks[number % 5], number, message="x" * 1_000)
    store.trigger(["#server-to-user-42"], "last", {})
    heard_by_quick = quick.receive_until(lambda message: message["event"] == "last")
    for task in tasks:
        finish(store, "42", task)
    store.trigger(["#server-to-user-42"], "end", {})
    heard_by_slow = slow.receive_until(lambda message: message["event"] == "end")

    assert len(heard_by_slow) < len(heard_by_quick)
    for task in tasks:
        events = [data_of(m) for m in heard_by_slow if m["event"] == "jobpush:task"]
        mine = [event for event in events if event["task_id"] == task]
        assert [event["seq"] for event in mine] == sorted({event["seq"] for event in mine})
        assert (mine[0]["state"], mine[-1]["state"]) == ("STARTED", "SUCCESS")
        assert [event["seq"] for event in mine][-1] == 402


def test_slow_reader_resumes_without_a_gap_from_any_id_it_has_seen(serve: Serve, store: Store) -> None:
    """What overtakes others in the outbox carries no id, so no id stands for more than was received."""
    site = serve(outbox_size=500_000)
    slow = site.sign_in("42", receive_buffer=RECEIVE_BUFFER)
    start(store, "42", "one")
    for number in range(1, 1_001):
        publish(store, "42", "one", number, message="x" * 2_000)
        if number % 100 == 0:
            store.trigger(["#server-to-user-42"], "number", number)
    store.trigger(["#server-to-user-42"], "end", {})

    messages = slow.receive_until(lambda message: message["event"] == "end")

    ids = [tuple(map(int, m["id"].split("-"))) for m in messages if "id" in m]
    assert ids == sorted(ids)
    assert [int(m["data"]) for m in messages if m["event"] == "number"] == list(range(100, 1_001, 100))


def test_history_may_be_longer_than_the_outbox(serve: Serve, store: Store) -> None:
    site = serve(outbox_size=10_000)
    store.trigger(["news"], "number", {"n": 0})
    first = site.connect()
    since = first.subscribe("news")[-1]["id"]
    for number in range(1, 201):
        store.trigger(["news"], "number", {"n": number, "padding": "x" * 1_000})

    second = site.connect(receive_buffer=RECEIVE_BUFFER)
    second.subscribe("news", since=since)
    store.trigger(["news"], "number", {"n": 201})

    assert [data_of(second.receive())["n"] for _ in range(201)] == list(range(1, 202))


def test_reader_that_stays_slow_is_closed_with_a_code_that_lets_it_come_back(serve: Serve, store: Store) -> None:
    site = serve(outbox_size=100_000)
    slow, quick = (site.connect(receive_buffer=RECEIVE_BUFFER), site.connect())
    for client in (slow, quick):
        client.receive()
        client.subscribe("news")

    number = 0
    while store.trigger(["news"], "number", {"n": number, "padding": "x" * 5_000}).connections == 2:
        assert data_of(quick.receive())["n"] == number
        number += 1
        assert number < 2_000

    assert slow.wait_for_close() == 4100
    numbers = [data_of(message)["n"] for message in slow.received]
    assert numbers == list(range(len(numbers)))
