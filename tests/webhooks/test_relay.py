"""From the stream in Redis into Celery's queue: each event once, in batches, past whatever fails on the way."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty
from typing import Any

import pytest
import redis
from celery import Celery

from jobpush.processes.embedded import EmbeddedRedis
from jobpush.store.webhooks import Delivery, WebhookStore
from jobpush.webhooks import DELIVER, WebhookRelay
from tests.waiting import PATIENCE

from .conftest import Append, MakeConfig, broker_of

A = "https://a.example/"
B = "https://b.example/"


def test_events_are_queued_for_each_endpoint_that_wants_them(
    celery_app: Celery, make_config: MakeConfig, append: Append, client: redis.Redis
) -> None:
    append("channel_occupied", channel="news")
    append("member_added", channel="presence-room", user_id="42")
    append("user_online", user_id="42")
    config = make_config(A, f"{B}#kinds=member_added+user_online", "https://c.example/#prefix=private-")

    with running(celery_app, config):
        first, second = queued(celery_app, 2)

    assert names(first) == (A, ["channel_occupied", "member_added", "user_online"])
    assert names(second) == (B, ["member_added", "user_online"])
    assert first.events[1] == {"name": "member_added", "channel": "presence-room", "user_id": "42"}
    assert first.id != second.id
    assert_nothing_is_left(client, celery_app)


def test_event_that_no_filter_accepts_is_removed_from_the_stream(
    celery_app: Celery, make_config: MakeConfig, append: Append, client: redis.Redis
) -> None:
    append("channel_occupied", channel="news")
    append("channel_occupied", channel="presence-room")

    with running(celery_app, make_config(f"{A}#prefix=presence-")):
        (only,) = queued(celery_app, 1)

    assert [event["channel"] for event in only.events] == ["presence-room"]
    assert_nothing_is_left(client, celery_app)


def test_no_request_carries_more_than_twenty_events(
    celery_app: Celery, make_config: MakeConfig, append: Append
) -> None:
    for number in range(45):
        append("channel_occupied", channel=f"c{number}")

    with running(celery_app, make_config(A)):
        deliveries = queued(celery_app, 3)

    assert [len(delivery.events) for delivery in deliveries] == [20, 20, 5]
    assert channels(deliveries) == [f"c{number}" for number in range(45)]


def test_events_within_the_interval_are_sent_in_one_request(
    celery_app: Celery, make_config: MakeConfig, append: Append
) -> None:
    with running(celery_app, make_config(A, webhook_batch_interval=PATIENCE)):
        for number in range(20):  # the twentieth ends the wait
            append("channel_occupied", channel=f"c{number}")
        (only,) = queued(celery_app, 1)

    assert channels([only]) == [f"c{number}" for number in range(20)]


def test_several_relays_queue_each_event_once(
    celery_app: Celery, make_config: MakeConfig, append: Append, client: redis.Redis
) -> None:
    config = make_config(A, webhook_batch_interval=0.001)
    with running(celery_app, config), running(celery_app, config), running(celery_app, config):
        for number in range(100):
            append("channel_occupied", channel=f"c{number}")
        seen: list[str] = []
        while len(seen) < 100:
            seen += channels(queued(celery_app, 1))

    assert sorted(seen) == sorted(f"c{number}" for number in range(100))
    assert_nothing_is_left(client, celery_app)


def test_entries_of_a_dead_worker_are_claimed_by_another(
    celery_app: Celery, make_config: MakeConfig, append: Append, client: redis.Redis, webhook_store: WebhookStore
) -> None:
    append("channel_occupied", channel="taken")
    webhook_store.take("dead", count=20, wait=1)

    with running(celery_app, make_config(A, webhook_claim_after=0.05)):
        append("channel_occupied", channel="fresh")
        deliveries = queued(celery_app, 2)

    assert sorted(channels(deliveries)) == ["fresh", "taken"]
    assert_nothing_is_left(client, celery_app)


def test_entries_of_a_live_worker_are_not_claimed(
    celery_app: Celery, make_config: MakeConfig, append: Append, webhook_store: WebhookStore
) -> None:
    append("channel_occupied", channel="taken")
    webhook_store.take("busy", count=20, wait=1)

    with running(celery_app, make_config(A, webhook_claim_after=PATIENCE)):
        append("channel_occupied", channel="fresh")
        (only,) = queued(celery_app, 1)

    assert channels([only]) == ["fresh"]


def test_same_entries_make_a_delivery_of_the_same_id(
    celery_app: Celery, make_config: MakeConfig, append: Append, client: redis.Redis
) -> None:
    append("channel_occupied", channel="a")
    append("channel_occupied", channel="b")
    entries = client.xrange("jobpush:{webhooks}:stream")
    with running(celery_app, make_config(A)):
        (before,) = queued(celery_app, 1)

    client.delete("jobpush:{webhooks}:stream")
    for entry_id, fields in entries:
        client.xadd("jobpush:{webhooks}:stream", fields, id=entry_id)
    with running(celery_app, make_config(A)):
        (after,) = queued(celery_app, 1)

    assert after == before


def test_malformed_entry_is_skipped(
    celery_app: Celery, make_config: MakeConfig, append: Append, client: redis.Redis
) -> None:
    for fields in ({"x": "y"}, {"e": "{", "ms": "1"}, {"e": "[]", "ms": "1"}, {"e": "{}", "ms": "now"}, {"again": "7"}):
        client.xadd("jobpush:{webhooks}:stream", fields)
    append("channel_occupied", channel="news")

    with running(celery_app, make_config(A)):
        (only,) = queued(celery_app, 1)

    assert channels([only]) == ["news"]
    assert_nothing_is_left(client, celery_app)


def test_each_delivery_is_queued_once_after_a_broker_outage(
    make_config: MakeConfig, append: Append, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    with EmbeddedRedis() as broker, Celery(broker=broker_of(broker.url), set_as_current=False) as app:
        app.conf.update(task_publish_retry=False, broker_transport_options={"max_retries": 0, "interval_start": 0})
        with running(app, make_config(A, B)), log_line("Webhooks wait, and are retried") as is_waiting:
            broker.kill()
            append("channel_occupied", channel="news")
            assert is_waiting.wait(PATIENCE)
            broker.restart(keep_data=False)
            deliveries = queued(app, 2)

        assert [delivery.endpoint for delivery in deliveries] == [A, B]
        assert_nothing_is_left(client, app)


def test_consumer_group_is_created_again_in_an_emptied_redis(
    celery_app: Celery, make_config: MakeConfig, append: Append, redis_server: EmbeddedRedis
) -> None:
    with EmbeddedRedis() as broker, Celery(broker=broker_of(broker.url), set_as_current=False) as app:
        with running(app, make_config(A)), log_line("Webhooks wait, and are retried") as is_waiting:
            redis_server.kill()
            assert is_waiting.wait(PATIENCE)
            redis_server.restart(keep_data=False)
            append("channel_occupied", channel="news")
            (only,) = queued(app, 1)

    assert channels([only]) == ["news"]


def test_failed_delivery_can_be_resent_to_its_endpoint_only(
    celery_app: Celery, make_config: MakeConfig, client: redis.Redis, webhook_store: WebhookStore
) -> None:
    event = {"name": "channel_occupied", "channel": "news"}
    webhook_store.give_up(Delivery("id-1", A, [event], since=1.0), reason="it answered 410", tries=1)
    webhook_store.give_up(Delivery("id-2", A, [event], since=2.0), reason="it answered 410", tries=1)

    assert webhook_store.retry_given_up() == 2
    with running(celery_app, make_config(A, B)):
        first, second = queued(celery_app, 2)

    assert (first.id, second.id) == ("id-1", "id-2")
    assert (first.endpoint, first.events) == (A, [event])
    assert first.since > 2.0
    assert webhook_store.given_up() == []
    assert_nothing_is_left(client, celery_app)


def test_stopped_relay_leaves_no_consumer(
    celery_app: Celery, make_config: MakeConfig, append: Append, client: redis.Redis
) -> None:
    append("channel_occupied", channel="news")

    with running(celery_app, make_config(A)):
        queued(celery_app, 1)

    assert client.xinfo_consumers("jobpush:{webhooks}:stream", "relay") == []


def test_vanished_consumers_are_deleted_once_their_entries_are_claimed(
    append: Append, client: redis.Redis, webhook_store: WebhookStore
) -> None:
    append("channel_occupied", channel="news")
    webhook_store.take("with nothing", count=20, wait=1)
    append("channel_occupied", channel="news")
    webhook_store.take("with something", count=20, wait=1)
    webhook_store.claim("other", count=1, idle=0)

    webhook_store.forget_vanished(silence=0)

    left = client.xinfo_consumers("jobpush:{webhooks}:stream", "relay")
    assert [consumer["name"] for consumer in left] == ["other", "with something"]


def test_without_urls_nothing_is_read(
    celery_app: Celery, make_config: MakeConfig, append: Append, client: redis.Redis
) -> None:
    append("channel_occupied", channel="news")

    with running(celery_app, make_config()):
        pass

    assert client.xinfo_groups("jobpush:{webhooks}:stream") == []


# -- the other side ----------------------------------------------------------------------------------


@contextmanager
def running(app: Celery, config: Any) -> Iterator[None]:
    relay = WebhookRelay(app, config)
    relay.start()
    try:
        yield
    finally:
        relay.stop(PATIENCE)


@contextmanager
def log_line(words: str) -> Iterator[threading.Event]:
    """An event that is set when something with these words is logged."""
    event = threading.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if words in record.getMessage():
                event.set()

    listener = Listener()
    logging.getLogger("jobpush.webhooks").addHandler(listener)
    yield event
    logging.getLogger("jobpush.webhooks").removeHandler(listener)


def queued(app: Celery, count: int) -> list[Delivery]:
    """The next deliveries in Celery's queue, waited for."""
    with app.connection() as connection, connection.SimpleQueue("celery") as messages:
        deliveries = []
        for _ in range(count):
            message = messages.get(timeout=PATIENCE)
            message.ack()
            assert message.headers["task"] == DELIVER
            deliveries.append(Delivery(message.headers["id"], *message.payload[0]))
    return deliveries


def names(delivery: Delivery) -> tuple[str, list[str]]:
    return delivery.endpoint, [event["name"] for event in delivery.events]


def channels(deliveries: list[Delivery]) -> list[str]:
    return [event["channel"] for delivery in deliveries for event in delivery.events]


def assert_nothing_is_left(client: redis.Redis, app: Celery) -> None:
    """No event is waiting or pending, and no delivery more than was asked for is queued."""
    assert client.xlen("jobpush:{webhooks}:stream") == 0
    assert client.xpending("jobpush:{webhooks}:stream", "relay")["pending"] == 0
    with app.connection() as connection, connection.SimpleQueue("celery") as messages:
        with pytest.raises(Empty):
            messages.get_nowait()
