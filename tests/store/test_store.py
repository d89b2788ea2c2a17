"""The promises of the store, on a real Redis: one step, one order, nothing stale, all bounded."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis

from jobpush.channels import Topic, user_topic
from jobpush.config import Config
from jobpush.errors import ConfigurationError, StoreError, TaskNotFound
from jobpush.events import TaskEvent, TaskState
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.store import Published, Store, TaskWrite
from jobpush.store.records import Outcome
from jobpush.store.task_calls import TaskCalls
from jobpush.testing import PATIENCE

CREATED = 1_700_000_000.123456


def event(state: str, **values: object) -> TaskEvent:
    return TaskEvent("t1", TaskState(state), name="video.encode", created_at=CREATED, at=CREATED + 1, **values)  # type: ignore[arg-type]


def publish(store: Store, *events: TaskEvent, user_id: str = "42") -> list[Published]:
    return store.publish([TaskWrite(user_id, item) for item in events])


def outcomes(published: list[Published]) -> list[tuple[Outcome, int]]:
    return [(item.outcome, item.seq) for item in published]


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def test_seq_of_a_task_starts_at_one(store: Store) -> None:
    published = publish(store, event("PENDING"), event("RECEIVED"), event("STARTED"), event("PROGRESS"))

    assert [item.seq for item in published] == [1, 2, 3, 4]
    assert store.task("t1") == event("PROGRESS", seq=4)


def test_earlier_state_of_the_same_attempt_is_refused(store: Store) -> None:
    published = publish(store, event("STARTED"), event("RECEIVED"), event("PENDING"))

    assert outcomes(published) == [(Outcome.STORED, 1), (Outcome.STALE, 1), (Outcome.STALE, 1)]
    assert store.task("t1").state is TaskState.STARTED


@pytest.mark.parametrize("final", ["SUCCESS", "FAILURE", "REVOKED"])
@pytest.mark.parametrize("straggler", ["PROGRESS", "RETRY", "LOST", "SUCCESS", "FAILURE", "REVOKED"])
def test_final_state_is_never_overwritten_by_a_late_event(store: Store, final: str, straggler: str) -> None:
    publish(store, event("STARTED"), event(final))

    (published,) = publish(store, event(straggler))

    assert published.outcome is Outcome.STALE
    assert store.task("t1").state is TaskState(final)


def test_lost_is_replaced_by_any_later_event(store: Store) -> None:
    publish(store, event("STARTED"), event("LOST"))

    assert outcomes(publish(store, event("PROGRESS"))) == [(Outcome.STORED, 3)]


def test_retry_is_followed_by_the_next_attempt(store: Store) -> None:
    published = publish(store, event("RETRY"), event("PROGRESS"), event("RECEIVED", attempt=2), event("PROGRESS"))

    assert [item.outcome for item in published] == [Outcome.STORED, Outcome.STALE, Outcome.STORED, Outcome.STALE]


def test_task_published_again_under_its_id_starts_again(store: Store) -> None:
    publish(store, event("STARTED"), event("SUCCESS"))
    again = replace(event("PENDING"), created_at=CREATED + 60)

    publish(store, again)

    assert store.task("t1") == replace(again, seq=3)


def test_seq_continues_from_the_larger_value_after_redis_is_emptied(redis_server: EmbeddedRedis, store: Store) -> None:
    publish(store, event("STARTED"))
    redis_server.restart(keep_data=False)

    published = publish(store, event("PROGRESS", seq=7))

    assert outcomes(published) == [(Outcome.STORED, 8)]


def test_event_is_published_with_its_history_id(store: Store, client: redis.Redis) -> None:
    topic = user_topic("4:2")
    listener = client.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(store.keys.topic(topic))
    listener.get_message(timeout=5)

    publish(store, event("PROGRESS", current=1, total=4, data={"url": '<a href="x">'}), user_id="4:2")

    message = listener.get_message(timeout=5)
    assert message is not None
    header, _, members = message["data"].partition(b"\n")
    stream_id, *rest = header.split(b" ")
    assert rest == [b"t1", b"1", b"0", b"-"]
    frame = json.loads(b"{" + members + b"}")
    assert frame["event"] == "jobpush:task"
    assert json.loads(frame["data"]) == json.loads(
        json.dumps(event("PROGRESS", current=1, total=4, data={"url": '<a href="x">'}, seq=1).to_wire())
    )
    (entry,) = client.xrange(store.keys.stream(topic))
    assert entry[0] == stream_id
    listener.close()


def test_cancel_revokes_a_waiting_task_at_once(store: Store) -> None:
    publish(store, event("PENDING"))

    assert store.cancel("t1") is TaskState.REVOKED
    assert store.task("t1").state is TaskState.REVOKED


def test_task_cancelled_while_it_waits_is_kept_like_any_ended_one(store: Store, client: redis.Redis) -> None:
    publish(store, event("PENDING"))
    key = store.keys.task(user_topic("42"), "t1")
    waiting = client.ttl(key)

    store.cancel("t1")

    assert 0 < client.ttl(key) < waiting


def test_cancelled_task_cannot_start(store: Store) -> None:
    publish(store, event("PENDING"))
    store.cancel("t1")

    (published,) = publish(store, event("STARTED"))

    assert published.outcome is not Outcome.STORED
    assert published.is_cancelled


def test_running_task_is_cancelling_until_it_is_revoked(store: Store) -> None:
    publish(store, event("STARTED"))

    assert store.cancel("t1") is TaskState.STARTED
    assert store.task("t1").cancelling

    (published,) = publish(store, event("PROGRESS"))
    assert published.is_cancelled
    assert store.task("t1").cancelling

    publish(store, event("REVOKED"))
    assert not store.task("t1").cancelling


def test_redelivery_without_a_publish_time_belongs_to_the_stored_run(store: Store) -> None:
    publish(store, event("STARTED"), event("PROGRESS", current=40, total=100))
    again = replace(event("RECEIVED"), created_at=CREATED + 60)

    (received,) = store.publish([TaskWrite("42", again, is_again=True)])
    (succeeded,) = publish(store, event("SUCCESS"))

    assert (received.outcome, succeeded.outcome) == (Outcome.STALE, Outcome.STORED)
    assert store.task("t1").state is TaskState.SUCCESS


def test_redelivery_of_an_unknown_task_starts_it(store: Store) -> None:
    for state in ("RECEIVED", "STARTED", "SUCCESS"):
        store.publish([TaskWrite("42", event(state), is_again=True)])

    assert store.task("t1") == event("SUCCESS", seq=3)


def test_cancel_of_an_ended_task_changes_nothing(store: Store) -> None:
    publish(store, event("STARTED"), event("SUCCESS"))

    assert store.cancel("t1") is TaskState.SUCCESS
    assert store.task("t1") == event("SUCCESS", seq=2)


def test_cancel_is_added_to_the_stream_of_the_workers(store: Store, client: redis.Redis) -> None:
    publish(store, event("STARTED"))

    store.cancel("t1")

    assert [entry for _, entry in client.xrange(store.keys.cancels)] == [{b"task_id": b"t1"}]


def test_unknown_task_is_an_error_with_its_id(store: Store) -> None:
    with pytest.raises(TaskNotFound, match="'nope' is not known"):
        store.task("nope")
    with pytest.raises(TaskNotFound):
        store.cancel("nope")


def test_tasks_are_listed_newest_first_and_only_to_their_owner(store: Store) -> None:
    for number in range(3):
        task = replace(event("PENDING"), task_id=f"t{number}", created_at=CREATED + number)
        publish(store, task)

    assert [task.task_id for task in store.tasks("42")] == ["t2", "t1", "t0"]
    assert store.tasks("43") == []
    assert store.owner("t1") == "42"


@pytest.mark.parametrize("user_id", ["a:b", "#x", "ünï", "*", "a{b}", "=u=", "x y"])
def test_any_user_id_makes_valid_separate_keys(store: Store, client: redis.Redis, user_id: str) -> None:
    publish(store, event("PENDING"), user_id=user_id)

    assert store.owner("t1") == user_id
    assert [task.task_id for task in store.tasks(user_id)] == ["t1"]
    assert all(key.count(b"{") <= 1 and b" " not in key for key in client.keys())


def test_keys_are_bounded_and_expire(redis_url: str, client: redis.Redis) -> None:
    store = Store(Config(redis_url=redis_url, max_tasks=5, history_size=100, publish_timeout=PATIENCE))
    for number in range(400):
        publish(store, replace(event("PENDING"), task_id=f"t{number}", created_at=CREATED + number))

    topic = user_topic("42")
    assert client.zcard(store.keys.tasks(topic)) == 5
    assert client.xlen(store.keys.stream(topic)) <= 200  # Redis trims whole nodes of 100
    persistent = [key for key in client.keys() if client.ttl(key) == -1]
    assert persistent == []
    store.close()


def test_final_snapshot_expires_before_a_running_one(store: Store, client: redis.Redis) -> None:
    key = store.keys.task(user_topic("42"), "t1")
    publish(store, event("STARTED"))
    running = client.ttl(key)

    publish(store, event("SUCCESS"))

    assert client.ttl(key) < running


def test_one_call_triggers_many_channels(store: Store, client: redis.Redis) -> None:
    listener = client.pubsub(ignore_subscribe_messages=True)
    names = [f"news-{number}" for number in range(300)]
    listener.subscribe(*(store.keys.topic(Topic(f"channel:{name}")) for name in names))
    for _ in names:
        listener.get_message(timeout=5)  # the confirmations

    receipt = store.trigger(names, "item", {"n": 1}, exclude="1.2")

    assert set(receipt.ids) == set(names)
    received = [listener.get_message(timeout=5) for _ in names]
    expected = b'- 0 1 1.2\n"event":"item","data":"{\\"n\\":1}"'
    assert [message["data"].partition(b" ")[2] for message in received if message] == [expected] * len(names)
    listener.close()


def test_receipt_counts_connections_of_live_gateways_only(store: Store, client: redis.Redis) -> None:
    key = store.keys.subscribed(user_topic("42"))
    client.hset(key, mapping={"alive": 3, "dead": 5})
    client.zadd(store.keys.gateways, {"alive": time.time() + 60, "dead": time.time() - 1})

    receipt = store.trigger(["#server-to-user-42", "news"], "hello", "text")

    assert receipt.by_channel == {"#server-to-user-42": 3, "news": 0}
    assert receipt.connections == 3


def test_unreachable_redis_is_a_store_error(redis_server: EmbeddedRedis, store: Store) -> None:
    redis_server.kill()

    with pytest.raises(StoreError):
        store.probe()
    with pytest.raises(StoreError):
        publish(store, event("PENDING"))


def test_missing_scripts_are_loaded_again(store: Store, client: redis.Redis) -> None:
    publish(store, event("PENDING"))
    client.script_flush()

    assert outcomes(publish(store, event("STARTED"))) == [(Outcome.STORED, 2)]


def test_event_after_an_empty_history_has_a_higher_id(store: Store, client: redis.Redis) -> None:
    for number in range(200):
        topic = user_topic(f"user-{number}")

        ((position, _, _),) = store.run([TaskCalls(store.config).history(f"private-user-user-{number}", topic)])
        publish(store, event("PENDING"), user_id=f"user-{number}")

        ((entry, _),) = client.xrange(store.keys.stream(topic))
        assert [int(part) for part in position.split(b"-")] < [int(part) for part in entry.split(b"-")]


@pytest.mark.parametrize("url", ["bogus", "http://:hunter2@host", "redis://host:port"])
def test_invalid_redis_url_is_reported_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="JOBPUSH_REDIS_URL is not the URL") as raised:
        Store(Config(redis_url=url))

    assert "hunter2" not in str(raised.value)
