"""Stored data that another program has overwritten: it is skipped and logged once, and hides nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import redis

from jobpush.channels import Topic, parse_channel, user_topic
from jobpush.config import Config
from jobpush.events import TaskEvent, TaskState
from jobpush.store import CancelFeed, Membership, Outcome, Store, TaskWrite, WorkflowPlan
from jobpush.store.directory import RedisDirectory
from jobpush.store.keys import tag_of
from jobpush.store.malformed import MalformedEntries, malformed
from jobpush.store.task_calls import TaskCalls
from jobpush.store.task_logs import LogEntry
from jobpush.store.user_events import listen
from jobpush.store.webhooks import Delivery, WebhookStore

from .gateways import Gateway

USER = "42"
TOPIC = user_topic(USER)

Overwrite = Callable[[redis.Redis, str], Any]


@pytest.fixture(autouse=True)
def first_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test be the first one to skip anything."""
    monkeypatch.setattr(malformed, "_log", MalformedEntries()._log)


def publish(store: Store, task_id: str, state: str, **values: Any) -> Outcome:
    event = TaskEvent(task_id, TaskState(state), created_at=1.0, at=1.0, **values)
    (published,) = store.publish([TaskWrite(USER, event)])
    return published.outcome


def log_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in caplog.messages if line.startswith("Skipped malformed")]


OVERWRITTEN: dict[str, Overwrite] = {
    "text": lambda client, key: client.set(key, "garbage"),
    "list": lambda client, key: (client.delete(key), client.rpush(key, "garbage")),
    "other fields": lambda client, key: (client.delete(key), client.hset(key, "foo", "bar")),
    "no tail": lambda client, key: client.hdel(key, "stable_json"),
    "no state": lambda client, key: client.hdel(key, "state"),
    "no JSON": lambda client, key: client.hset(key, "stable_json", "garbage"),
    "open quote": lambda client, key: client.hset(key, "volatile_json", 'a"b'),
    "no UTF-8": lambda client, key: client.hset(key, "stable_json", b"\xff\xfe"),
    "nested": lambda client, key: client.hset(key, "volatile_json", '\\"data\\":' + "[" * 10_000),
    "seq": lambda client, key: client.hset(key, "seq", "seven"),
    "attempt": lambda client, key: client.hset(key, "attempt", "first"),
    "time": lambda client, key: client.hset(key, "at", "noon"),
    "NaN": lambda client, key: client.hset(key, "volatile_json", '\\"eta\\":NaN'),
    "infinity": lambda client, key: client.hset(key, "volatile_json", '\\"eta\\":1e999'),
    "newer version": lambda client, key: client.hset(key, mapping={"state": "PAUSED", "new_field": "x"}),
    "newer type": lambda client, key: client.hset(key, "volatile_json", '\\"eta\\":{\\"low\\":1}'),
}


def test_overwritten_tasks_are_skipped_in_lists(
    store: Store, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    publish(store, "first", "STARTED")
    for how, overwrite in OVERWRITTEN.items():
        publish(store, how, "STARTED")
        overwrite(client, store.keys.task(TOPIC, how))
    publish(store, "last", "STARTED")

    found = [[task.task_id for task in store.tasks(USER)] for _ in range(3)]

    assert found == [["last", "first"]] * 3
    assert len(log_lines(caplog)) == 1


def test_pages_of_tasks_go_on_behind_an_overwritten_one(store: Store, client: redis.Redis) -> None:
    for task_id in ("t1", "t2", "t3"):
        publish(store, task_id, "STARTED")
    OVERWRITTEN["other fields"](client, store.keys.task(TOPIC, "t2"))

    pages = [store.tasks(USER, start=start, limit=1) for start in range(3)]

    assert [task.task_id for page in pages for task in page] == ["t3", "t1"]


def test_overwritten_tasks_can_be_reported_again(store: Store, client: redis.Redis) -> None:
    for how, overwrite in OVERWRITTEN.items():
        publish(store, how, "STARTED")
        overwrite(client, store.keys.task(TOPIC, how))

        assert publish(store, how, "PROGRESS", current=3) is Outcome.STORED, how
        assert publish(store, how, "SUCCESS") is Outcome.STORED, how

    assert {task.task_id for task in store.tasks(USER) if task.state is TaskState.SUCCESS} == set(OVERWRITTEN)


def test_overwritten_members_are_skipped_among_children(store: Store, client: redis.Redis) -> None:
    root = TaskEvent("w", TaskState.PENDING, created_at=1.0, at=1.0)
    store.publish([TaskWrite(USER, root, plan=WorkflowPlan(3, 3.0))])
    for member in ("m1", *OVERWRITTEN, "m3"):
        event = TaskEvent(member, TaskState.STARTED, created_at=1.0, at=1.0, root_id="w")
        store.publish([TaskWrite(USER, event, membership=Membership("0:3", is_planned=True))])
    for how, overwrite in OVERWRITTEN.items():
        overwrite(client, store.keys.task(TOPIC, how))
    client.rpush(store.keys.children(TOPIC, "w"), b"\xff\xfe")
    client.hset(store.keys.workflow(TOPIC, "w"), "failed", "many")

    assert [child.task_id for child in store.children("w")] == ["m1", "m3"]


def test_overwritten_sums_do_not_stop_the_members(store: Store, client: redis.Redis) -> None:
    root = TaskEvent("w", TaskState.PENDING, created_at=1.0, at=1.0)
    store.publish([TaskWrite(USER, root, plan=WorkflowPlan(1, 1.0))])
    event = TaskEvent("m", TaskState.STARTED, created_at=1.0, at=1.0, root_id="w")
    store.publish([TaskWrite(USER, event, membership=Membership("0:1", is_planned=True))])
    fields = {"sum": "x", "closed": "y", "b:0": "z", "m:m": "garbage", "interval": "soon"}
    client.hset(store.keys.workflow(TOPIC, "w"), mapping=fields)

    done = TaskEvent("m", TaskState.SUCCESS, created_at=1.0, at=2.0, root_id="w")
    (published,) = store.publish([TaskWrite(USER, done, membership=Membership("0:1", is_planned=True))])

    assert published.outcome is Outcome.STORED


def test_overwritten_keys_are_replaced_by_the_next_write(store: Store, client: redis.Redis) -> None:
    keys = store.keys
    log, log_state = keys.log(TOPIC, "t1")
    inbox, states = keys.inbox(TOPIC)
    topics = (keys.stream(TOPIC), keys.floor(TOPIC), keys.tasks(TOPIC))
    for key in (*topics, keys.owner("t1"), log, log_state, inbox, states):
        for how in ("text", "list"):
            publish(store, "t1", "PROGRESS")
            OVERWRITTEN[how](client, key)

            publish(store, "t1", "PROGRESS", current=1)
            store.append_log(USER, "t1", [LogEntry("line", "info", 1.0)])
            store.keep_notification(USER, "news", {})

            assert [task.current for task in store.tasks(USER)] == [1], key
            assert store.task_log("t1").entries[-1].message == "line", key
            assert store.inbox(USER)[0].event == "news", key


def test_foreign_items_of_an_inbox_are_skipped(
    store: Store, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    inbox, _ = store.keys.inbox(TOPIC)
    store.keep_notification(USER, "first", {})
    for fields in ({"x": "y"}, {"d": "garbage"}, {"d": "[]"}, {"d": '{"data":1}'}, {"d": '{"event":"e","data":NaN}'}):
        client.xadd(inbox, fields)  # type: ignore[arg-type]
    store.keep_notification(USER, "last", {})

    assert [item.event for item in store.inbox(USER)] == ["last", "first"]
    assert store.mark_inbox(USER, "seen") == 7
    assert len(log_lines(caplog)) == 1


def test_foreign_lines_of_a_log_are_skipped(store: Store, client: redis.Redis) -> None:
    publish(store, "t1", "STARTED")
    log, state = store.keys.log(TOPIC, "t1")
    store.append_log(USER, "t1", [LogEntry("first", "info", 1.0)])
    for fields in (
        {"x": "y"},
        {"d": "garbage"},
        {"d": b"\xff"},
        {"d": '\\"message\\":1,\\"level\\":\\"x\\",\\"at\\":1'},
    ):
        client.xadd(log, fields)  # type: ignore[arg-type]
    store.append_log(USER, "t1", [LogEntry("last", "info", 2.0)])
    client.hset(state, mapping={"dropped": "many", "dropped_until": "then"})

    assert [line.message for line in store.task_log("t1").entries] == ["first", "last"]
    first, last = store.task_log("t1", limit=1), store.task_log("t1", since=store.task_log("t1").entries[0].id, limit=2)
    assert [line.message for part in (first, last) for line in part.entries] == ["first", "last"]
    assert [line.message for line in store.task_log_lines("t1")] == ["first", "last"]


def test_foreign_entries_of_a_history_do_not_hide_the_others(store: Store, client: redis.Redis) -> None:
    first = store.trigger(["news"], "e", 1).ids["news"]
    client.xadd(store.keys.stream(Topic("channel:news")), {"x": "y"})
    last = store.trigger(["news"], "e", 2).ids["news"]

    ((position, resumed, messages),) = store.run(
        [TaskCalls(store.config).history("news", Topic("channel:news"), first)]
    )

    assert (position.decode(), resumed, len(messages)) == (last, 1, 2)
    assert messages[1].startswith(last.encode() + b" - 0 1 -\n")


def test_foreign_members_of_a_presence_channel_are_skipped(store: Store, client: redis.Redis) -> None:
    gateway = Gateway(store)
    gateway.join("presence-room", "alice", '{"name":"A"}')
    gateway_id = gateway.presence.gateway_id
    members = store.keys.members(parse_channel("presence-room").occupancy_topic)
    stored = {'a"b': f"{gateway_id}|{{}}", b"\xff": f"{gateway_id}|{{}}", "bob": f"{gateway_id}|{{", "carol": "garbage"}
    client.hset(members, mapping=stored)  # type: ignore[arg-type]

    assert gateway.roster("presence-room").members == {"alice": '{"name":"A"}'}
    assert set(RedisDirectory(store).member_ids("presence-room")) == {"alice", "bob"}
    assert gateway.join("presence-room", "carol", "{}") == 1
    assert gateway.leave("presence-room", "carol") == 1


def test_foreign_counts_and_names_do_not_hide_the_others(store: Store, client: redis.Redis) -> None:
    gateway, directory = Gateway(store), RedisDirectory(store)
    gateway_id = gateway.presence.gateway_id
    gateway.occupy("news", 2)
    client.zadd(store.keys.channels(tag_of("news")), {b"\xff\xfe": 0, b"\xc3\xa4": 0, b"  ": 0, b"elsewhere-1": 0})
    client.hset(store.keys.connections(Topic("channel:other")), gateway_id, "many")

    assert list(directory.channels()) == ["news"]
    assert directory.channel("other").subscription_count == 0
    assert gateway.occupy("other", 1)[0] == 1
    assert store.trigger(["other"], "e", 1).connections == 1


def test_page_of_foreign_names_is_not_the_last_one(store: Store, client: redis.Redis) -> None:
    gateway, directory = Gateway(store), RedisDirectory(store)
    gateway.run(gateway.presence.occupy(TOPIC, 1))
    client.zadd(store.keys.users(tag_of(USER)), {f"\x01{number}": 0 for number in range(5)})

    assert list(directory.all_online_users()) == [USER]
    assert directory.online_users(limit=2)[0] == [USER]


def test_foreign_event_of_a_cache_channel_is_none(store: Store, client: redis.Redis) -> None:
    client.set(store.keys.cache(Topic("channel:cache-news")), "garbage", ex=60)

    assert RedisDirectory(store).channel("cache-news").cache is None


def test_unreadable_mark_revokes_all_tokens(store: Store, client: redis.Redis) -> None:
    client.set(store.keys.revoked(TOPIC), "garbage")

    assert RedisDirectory(store).revoked_at(USER) == float("inf")


def test_cancel_requests_without_text_are_skipped(store: Store, client: redis.Redis) -> None:
    client.xadd(store.keys.cancels, {"task_id": b"\xff"})
    client.xadd(store.keys.cancels, {"task_id": "t1"})
    feed = CancelFeed(store.config)

    assert feed.read("0-0", timeout=1)[1][-1] == "t1"
    feed.close()


def test_unreadable_durations_do_not_keep_a_task_from_its_start(store: Store, client: redis.Redis) -> None:
    client.hset(store.keys.stages("t"), mapping={"load": "2.5", "save": "long", b"\xff": "1"})  # type: ignore[dict-item]
    write = TaskWrite(USER, TaskEvent("t1", TaskState.STARTED, name="t", created_at=1.0, at=1.0))

    assert store.start(write)[1] == {"load": 2.5}


def test_foreign_webhooks_are_skipped(redis_url: str, client: redis.Redis) -> None:
    webhooks = WebhookStore(Config(redis_url=redis_url))
    webhooks.join()
    delivery = Delivery("d1", "https://a", [{"name": "channel_occupied"}], 1.0)
    for fields in (
        {"e": "[]", "ms": "1"},
        {"e": '{"channel":"x"}', "ms": "1"},
        {"e": "[" * 10_000, "ms": "1"},
        {"e": '{"name":"x"}', "ms": "9" * 400},
        {"again": "{}"},
        {"again": json.dumps({"id": "1", "endpoint": "e", "events": 5, "since": 1})},
    ):
        client.xadd(Config(redis_url=redis_url).prefix + ":{webhooks}:stream", fields)  # type: ignore[arg-type]
    webhooks.give_up(delivery, reason="r", tries=1)
    client.lpush(webhooks._given_up, "garbage", "[]", "{}")

    entries = webhooks.take("c", count=10, wait=1)

    assert len(entries) == 6
    assert not any(entry.event or entry.delivery for entry in entries)
    assert [one.delivery for one in webhooks.given_up()] == [delivery]
    assert webhooks.retry_given_up() == 1
    assert [one.delivery.id for one in webhooks.take("c", count=10, wait=1) if one.delivery] == ["d1"]
    webhooks.close()


def test_cancel_and_erasure_work_on_overwritten_data(store: Store, client: redis.Redis) -> None:
    publish(store, "t1", "STARTED")
    publish(store, "t2", "STARTED")
    client.set(store.keys.task(TOPIC, "t1"), "garbage")
    client.set(store.keys.children(TOPIC, "t2"), "garbage")

    assert store.cancel("t2") is TaskState.STARTED
    assert store.erase(USER) == 2
    assert store.tasks(USER) == []


def test_listener_receives_the_other_tasks(store: Store, client: redis.Redis) -> None:
    publish(store, "t1", "STARTED")
    publish(store, "t2", "STARTED")
    client.hset(store.keys.task(TOPIC, "t1"), "at", "noon")

    first = next(listen(store.config, USER))

    assert first.task is not None and first.task.task_id == "t2"


def test_each_kind_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    entries = MalformedEntries(clock=lambda: now[0])

    for now[0] in (0.0, 1.0, 59.0, 60.0):
        assert entries.read("snapshots of tasks", [b"1", b"x"], int) == [1]
    entries.report("lines of logs", ValueError("bad"), "key")

    assert len(caplog.messages) == 3
    assert "4 so far" in caplog.messages[1]
    assert "lines of logs in Redis at 'key'" in caplog.messages[2]
