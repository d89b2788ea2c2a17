"""Logs of tasks: in order, bounded, resumable, and gone with the task."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
import redis

from jobpush.channels import user_topic
from jobpush.config import Config
from jobpush.errors import TaskNotFound
from jobpush.events import TaskEvent, TaskState
from jobpush.store import Store, TaskWrite
from jobpush.store.messages import read_message
from jobpush.store.task_logs import LogEntry, TaskLog
from jobpush.testing import PATIENCE

USER = "42"


def start(store: Store, task_id: str = "t1", state: str = "STARTED") -> None:
    store.publish([TaskWrite(USER, TaskEvent(task_id, TaskState(state), created_at=1.0))])


def entries(*messages: str) -> list[LogEntry]:
    return [LogEntry(message, "info", float(number)) for number, message in enumerate(messages)]


def messages(log: TaskLog | Sequence[LogEntry]) -> list[str]:
    return [entry.message for entry in (log.entries if isinstance(log, TaskLog) else log)]


@pytest.mark.parametrize(
    "text", ["plain", 'quotes " and \\', "<b>&amp;</b>", "\x00\x1b[31m", "ünï\u202e🙂", "", "a\nb"]
)
def test_line_is_read_as_it_was_written(store: Store, text: str) -> None:
    start(store)

    (line_id,) = store.append_log(USER, "t1", [LogEntry(text, "warning", 1.5)])

    assert store.task_log("t1") == TaskLog([LogEntry(text, "warning", 1.5, line_id)], 0, has_gap=False)


def test_lines_are_read_in_order_and_since_an_id(store: Store) -> None:
    start(store)
    first, second, third = store.append_log(USER, "t1", entries("one", "two", "three"))

    assert messages(store.task_log("t1")) == ["one", "two", "three"]
    assert messages(store.task_log("t1", since=first)) == ["two", "three"]
    assert messages(store.task_log("t1", since=third)) == []
    assert messages(store.task_log("t1", since=first, limit=1)) == ["two"]
    assert second


@pytest.mark.parametrize("since", ["x", "1-y", "-"])
def test_since_must_be_the_id_of_a_line(store: Store, since: str) -> None:
    start(store)

    with pytest.raises(ValueError, match="is not the id of a line"):
        store.task_log("t1", since=since)


def test_log_of_an_unknown_task_is_an_error(store: Store) -> None:
    with pytest.raises(TaskNotFound):
        store.task_log("nope")


def test_log_is_bounded_by_lines(redis_url: str) -> None:
    store = Store(Config(redis_url=redis_url, publish_timeout=PATIENCE, log_lines=10))
    start(store)
    ids = store.append_log(USER, "t1", entries(*map(str, range(25))))
    ids += store.append_log(USER, "t1", entries("last"), dropped=3)

    log = store.task_log("t1")

    assert messages(log) == [*map(str, range(16, 25)), "last"]
    assert log.dropped == 16 + 3
    assert store.task_log("t1", since=ids[3]).has_gap
    assert not store.task_log("t1", since=ids[15]).has_gap
    assert not store.task_log("t1", since=ids[20]).has_gap
    store.close()


def test_log_is_bounded_by_bytes(redis_url: str, client: redis.Redis) -> None:
    store = Store(Config(redis_url=redis_url, publish_timeout=PATIENCE, log_bytes=10_000))
    start(store)
    for _ in range(5):
        store.append_log(USER, "t1", entries(*["x" * 900] * 20))

    log, (stream, state) = store.task_log("t1"), store.keys.log(user_topic(USER), "t1")

    sizes = [len(fields[b"d"]) for _, fields in client.xrange(stream)]
    assert sum(sizes) <= 10_000 < sum(sizes) + 1_100
    assert len(log.entries) + log.dropped == 100
    assert int(client.hget(state, "bytes") or 0) == sum(sizes)
    store.close()


def test_only_the_line_larger_than_the_bound_is_dropped(redis_url: str) -> None:
    store = Store(Config(redis_url=redis_url, publish_timeout=PATIENCE, log_bytes=1_000))
    start(store)
    store.append_log(USER, "t1", entries("x" * 5_000))
    store.append_log(USER, "t1", entries("after"))

    assert store.task_log("t1").dropped == 1
    assert messages(store.task_log("t1")) == ["after"]
    store.close()


def test_log_expires_with_its_task(store: Store, client: redis.Redis) -> None:
    start(store)
    store.append_log(USER, "t1", entries("one"))
    task, names = store.keys.task(user_topic(USER), "t1"), store.keys.log(user_topic(USER), "t1")
    assert all(abs(client.ttl(name) - client.ttl(task)) <= 1 for name in names)

    start(store, state="SUCCESS")
    store.append_log(USER, "t1", entries("late"))

    assert all(0 < client.ttl(name) <= store.config.final_ttl for name in names)


def test_lines_are_published_to_user_and_task_and_kept_in_no_history(store: Store, client: redis.Redis) -> None:
    start(store)
    history = client.xlen(store.keys.stream(user_topic(USER)))
    listener = client.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(store.keys.topic(user_topic(USER)))
    listener.get_message(timeout=5)

    (line_id,) = store.append_log(USER, "t1", [LogEntry("one", "info", 1.5)])

    received = listener.get_message(timeout=PATIENCE)
    assert received is not None
    message = read_message(received["data"])
    assert (message.stream_id, message.task_id, message.is_for_task_alone) == (None, b"t1", False)
    frame = json.loads(b"{" + message.members + b"}")
    assert frame["event"] == "jobpush:log"
    assert json.loads(frame["data"]) == {"id": line_id, "task_id": "t1", "level": "info", "message": "one", "at": 1.5}
    assert client.xlen(store.keys.stream(user_topic(USER))) == history
    listener.close()


def test_many_lines_are_appended_in_parts(store: Store) -> None:
    start(store)

    ids = store.append_log(USER, "t1", entries(*map(str, range(1_200))), dropped=2)

    assert len(ids) == 1_200
    assert store.task_log("t1", limit=5_000).dropped == 2
    assert messages(store.task_log("t1", limit=5_000)) == list(map(str, range(1_200)))
