"""Queue positions of waiting tasks, published by a real worker on a Redis broker."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery import Celery

from jobpush.config import Config
from jobpush.events import TaskState
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.queues.celery.queue_positions import QueueWatcher
from jobpush.store import Store, TaskWrite
from jobpush.store.keys import tag_of
from tests.celery_site.site import PATIENT, Site
from tests.store.hanging_shard import HangingShard
from tests.waiting import wait_until


@pytest.fixture
def busy_site(tmp_path: Path) -> Iterator[Site]:
    """A worker that runs one task at a time, and inspects its queue often."""
    with EmbeddedRedis() as server:
        site = Site(server, server, tmp_path, place_interval=0.05, **PATIENT)
        site.start_worker("-c", "1")
        store = Store(Config(redis_url=server.url))
        wait_until(lambda: store.run([("EXISTS", store.keys.queue_leader("celery"))])[0], "a leader of the queue")
        yield site
        site.close()


def test_waiting_task_gets_its_queue_position(busy_site: Site, user: str, tmp_path: Path) -> None:
    listener = busy_site.listen(user)
    gate = tmp_path / "gate"
    running = busy_site.delay("reports_until", user, str(gate))
    listener.until_state(TaskState.PROGRESS, running)
    received = busy_site.delay("encode", user, "received.mov")
    listener.until_state(TaskState.RECEIVED, received)

    busy_site.delay("plain")  # not tracked, but counted in the position
    first, second = (busy_site.delay("encode", user, f"{name}.mov") for name in "ab")
    event = listener.until(lambda event: event.task_id == second and event.ahead == 2)
    gate.touch()
    last = listener.until_final(second)

    assert (event.state, event.title) == (TaskState.PENDING, "Encode b.mov")
    assert last.ahead is None
    assert {event.ahead for event in listener.of(first)} >= {None, 1}
    assert listener.states(second) == ["PENDING", "STARTED", "PROGRESS", "SUCCESS"]


def test_one_worker_reads_a_queue_until_it_stops(store: Store) -> None:
    assert [store.lead("celery", worker, 60) for worker in ("a", "b", "a")] == [True, False, True]

    client: Any = redis.Redis.from_url(store.config.redis_url)
    assert 0 < client.ttl(store.keys.queue_leader("celery")) <= 60
    client.delete(store.keys.queue_leader("celery"))
    client.close()

    assert store.lead("celery", "b", 60)


def test_purged_task_is_shown_as_purged(busy_site: Site, user: str, tmp_path: Path) -> None:
    listener = busy_site.listen(user)
    gate = tmp_path / "gate"
    running = busy_site.delay("reports_until", user, str(gate))
    listener.until_state(TaskState.PROGRESS, running)
    received = busy_site.delay("encode", user, "received.mov")
    listener.until_state(TaskState.RECEIVED, received)
    purged = [busy_site.delay("encode", user, f"{name}.mov") for name in "ab"]
    listener.until(lambda event: event.task_id == purged[1] and event.ahead == 1)

    assert busy_site.app.control.purge() == 2

    for _ in purged:
        event = listener.until(lambda event: event.message == "The task is no longer in its queue")
        assert event.task_id in purged and event.state is TaskState.PENDING
    gate.touch()
    listener.until_final(received)
    assert not any("queue" in event.message for event in listener.of(received))


def test_task_in_a_queue_without_a_worker_is_shown(busy_site: Site, user: str) -> None:
    listener = busy_site.listen(user)
    listener.until_final(busy_site.delay("encode", user, "ready.mov"))

    waits = busy_site.delay("encode", user, "cat.mov", queue="nobody")
    event = listener.until(lambda event: event.task_id == waits and bool(event.message))
    runs = busy_site.delay("encode", user, "dog.mov")
    listener.until_final(runs)

    assert (event.state, event.message) == (TaskState.PENDING, "No worker is running for the queue nobody")
    assert not any("No worker" in event.message for event in listener.of(runs))


def watcher_and_published() -> tuple[QueueWatcher, list[TaskWrite]]:
    """Return a watcher without a worker, and the list of its writes."""
    published: list[TaskWrite] = []
    services: Any = SimpleNamespace(
        config=Config(redis_url="redis://localhost", place_interval=0),
        publisher=SimpleNamespace(submit=published.append),
    )
    return QueueWatcher(None, services), published


@pytest.mark.parametrize("encoding", ["base64", "utf-8"])
def test_message_of_protocol_1_has_a_position(encoding: str) -> None:
    watcher, published = watcher_and_published()
    body = json.dumps(Celery(set_as_current=False).amqp.as_task_v1("t1", "encode", ("42",)).body)
    if encoding == "base64":
        body = base64.b64encode(body.encode()).decode()
    headers = {"jobpush_user": "42", "jobpush_created": 1.0}
    message = {"headers": headers, "body": body, "properties": {"body_encoding": encoding}}

    watcher._look_at("celery", [b"first", json.dumps(message).encode()])

    (event,) = [write.event for write in published]
    assert (event.task_id, event.name, event.ahead) == ("t1", "encode", 1)


def test_foreign_messages_in_a_queue_have_a_place_and_hide_no_position() -> None:
    watcher, published = watcher_and_published()
    headers = {"id": "t1", "task": "encode", "jobpush_user": "42", "jobpush_created": 1.0}
    malformed = [
        {**headers, "id": "malformed", name: value}
        for name, value in (
            ("jobpush_created", "yesterday"),
            ("jobpush_created", [1]),
            ("jobpush_user", {"id": 42}),
            ("jobpush_user", "x" * 1_000),
            ("retries", "twice"),
            ("jobpush_root", "w"),
        )
    ]
    malformed[-1]["jobpush_weight"] = "heavy"
    bodies: list[Any] = ["e30=", "e", None, [], "{}"]
    without_id = [{"headers": {"jobpush_user": "42"}, "body": body, "properties": {}} for body in bodies]
    foreign = [b"", b"\xff", b"garbage", b"[]", b"7", b"{}", b'{"headers":null}', b'{"headers":[1]}', b"[" * 100_000]
    foreign.extend(json.dumps(message).encode() for message in without_id)
    messages = [*foreign, *(json.dumps({"headers": fields}).encode() for fields in malformed)]

    watcher._look_at("celery", [*messages, json.dumps({"headers": headers}).encode()])

    assert [(write.event.task_id, write.event.ahead) for write in published] == [("t1", len(messages))]


def test_queues_of_other_primaries_are_watched_while_one_hangs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    queues = [SimpleNamespace(name=name) for name in ("silent", "other")]
    consumer: Any = SimpleNamespace(task_consumer=SimpleNamespace(queues=queues))
    watcher = QueueWatcher(consumer, SimpleNamespace(store=store, config=Config(place_interval=0.0)))  # type: ignore[arg-type]
    HangingShard(tag_of("silent"), store)
    looked_at = []

    def look_at(queue: str, messages: list[bytes]) -> None:
        looked_at.append(queue)
        watcher.stop()

    monkeypatch.setattr(watcher, "_look_at", look_at)
    monkeypatch.setattr("jobpush.queues.celery.queue_positions.queue_head", lambda *arguments: [])
    watcher._watch(None)

    assert looked_at == ["other"]
