"""One batch of events on its way to one endpoint: signed, tried again, given up."""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import redis
from celery import Celery
from celery.exceptions import Reject, Retry

from jobpush.config import Config
from jobpush.store.webhooks import GIVEN_UP_KEPT, Delivery, WebhookStore
from jobpush.webhooks import register_delivery
from jobpush.webhooks.celery_delivery import backoff
from jobpush.webhooks.endpoints import configured_endpoints
from tests.waiting import PATIENCE

from .conftest import SECRET, MakeConfig, verified
from .receiver import Receiver

EVENTS = [{"name": "channel_occupied", "channel": "chat-ä"}, {"name": "user_online", "user_id": "42"}]


def test_pusher_sdk_accepts_a_delivery_as_genuine(celery_app: Celery, make_config: MakeConfig) -> None:
    with Receiver() as receiver:
        deliver(celery_app, make_config(receiver.url))

        request = receiver.next()
    assert verified(request)["events"] == EVENTS
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Webhook-Id"] == "id-1"


def test_delivery_is_signed_with_the_new_secret_during_a_rotation(celery_app: Celery, make_config: MakeConfig) -> None:
    with Receiver() as receiver:
        deliver(celery_app, make_config(receiver.url, previous_secret="the old one"))

        assert verified(receiver.next())["events"] == EVENTS


def test_each_try_has_a_new_time_and_signature_and_the_same_id(celery_app: Celery, make_config: MakeConfig) -> None:
    with Receiver(500, 503, 200) as receiver:
        result = deliver(celery_app, make_config(receiver.url))

        tries = receiver.rest()
    assert result.successful()
    assert [request.headers["Webhook-Id"] for request in tries] == ["id-1"] * 3
    stamps = [verified(request)["time_ms"] for request in tries]
    assert stamps == sorted(stamps)
    assert len({request.headers["X-Pusher-Signature"] for request in tries}) == len(set(stamps))


@pytest.mark.parametrize("status", [301, 400, 401, 404, 408, 429, 500, 502])
def test_status_other_than_2xx_is_retried(status: int, celery_app: Celery, make_config: MakeConfig) -> None:
    with Receiver(status, 204) as receiver:
        result = deliver(celery_app, make_config(receiver.url))

        assert result.successful()
        assert len(receiver.rest()) == 2


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 2", b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 99_999]
)
def test_response_other_than_http_is_retried(answer: bytes, celery_app: Celery, make_config: MakeConfig) -> None:
    with Receiver(answer, 200) as receiver:
        result = deliver(celery_app, make_config(receiver.url))

        assert result.successful()
        assert len(receiver.rest()) == 2


def test_response_head_is_sufficient(celery_app: Celery, make_config: MakeConfig) -> None:
    early_hints = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    with Receiver(early_hints + b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n") as receiver:
        deliver(celery_app, make_config(receiver.url))

        assert len(receiver.rest()) == 1


def test_redirect_is_not_followed(celery_app: Celery, make_config: MakeConfig) -> None:
    with Receiver() as inside:
        moved = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {inside.url}\r\nContent-Length: 0\r\n\r\n".encode()
        with Receiver(moved, 200) as receiver:
            deliver(celery_app, make_config(receiver.url))

            assert len(receiver.rest()) == 2
        assert inside.rest() == []


def test_slowly_dripping_endpoint_cannot_hold_a_worker(
    celery_app: Celery, make_config: MakeConfig, webhook_store: WebhookStore
) -> None:
    with dripping() as url:
        config = make_config(url, webhook_timeout=0.2)
        deliver(celery_app, config, since=0)

    (given_up,) = webhook_store.given_up()
    assert given_up.reason == "timed out"


def test_user_and_password_of_a_url_are_sent_and_not_logged(
    celery_app: Celery, make_config: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with Receiver(500, 410) as receiver:
        url = receiver.url.replace("http://", "http://bob:passw0rd@") + "?token=t0ken"
        deliver(celery_app, make_config(url))

        assert receiver.next().headers["Authorization"] == "Basic Ym9iOnBhc3N3MHJk"
    assert "it answered 410" in caplog.text
    assert "passw0rd" not in caplog.text
    assert "t0ken" not in caplog.text


# -- trying again ------------------------------------------------------------------------------------


def test_countdowns_double_with_jitter_up_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(webhook_retry_delay=5, webhook_max_countdown=1800)

    for retries in range(500):
        longest = min(5.0 * 2 ** min(retries, 50), 1800.0)
        assert longest / 2 <= backoff(retries, config) <= longest

    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    assert [backoff(retries, config) for retries in range(10)] == [5, 10, 20, 40, 80, 160, 320, 640, 1280, 1800]


def test_retry_is_the_same_message_with_a_countdown(
    celery_app: Celery, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    since = time.time()
    with Receiver(500) as receiver:
        config = make_config(receiver.url, webhook_retry_delay=60.0)
        name = configured_endpoints(config)[0].name

        with pytest.raises(Retry) as caught:
            run_as_in_a_worker(celery_app, config, retries=1, since=since)

    message = next_message(celery_app)
    assert message.headers["id"] == "id-1"
    assert message.headers["retries"] == 2
    assert message.payload[0] == [name, EVENTS, since]
    assert 60 <= caught.value.when <= 120
    assert SECRET not in str(message.headers) + str(message.payload)


def test_last_try_is_made_at_the_end_of_the_time(celery_app: Celery, make_config: MakeConfig) -> None:
    with Receiver(500) as receiver:
        config = make_config(receiver.url, webhook_retry_delay=60.0, webhook_give_up_after=10.0)

        with pytest.raises(Retry) as caught:
            run_as_in_a_worker(celery_app, config, retries=9, since=time.time())

    assert caught.value.when <= 10


def test_delivery_returns_to_the_queue_when_the_broker_refuses_its_retry(make_config: MakeConfig) -> None:
    with Receiver(500) as receiver, closed_port() as port, Celery(broker=f"redis://127.0.0.1:{port}") as app:
        app.conf.update(task_publish_retry=False, broker_transport_options={"max_retries": 0, "interval_start": 0})

        with pytest.raises(Reject) as caught:
            run_as_in_a_worker(app, make_config(receiver.url), retries=0, since=time.time())

    assert caught.value.requeue


# -- giving up ---------------------------------------------------------------------------------------


def test_endpoint_that_answers_410_is_not_retried(
    celery_app: Celery, make_config: MakeConfig, webhook_store: WebhookStore
) -> None:
    with Receiver(410) as receiver:
        deliver(celery_app, make_config(receiver.url))

        assert len(receiver.rest()) == 1
    (given_up,) = webhook_store.given_up()
    assert (given_up.reason, given_up.tries) == ("it answered 410", 1)
    assert given_up.delivery.events == EVENTS


def test_private_address_is_given_up_at_once(
    celery_app: Celery, make_config: MakeConfig, webhook_store: WebhookStore
) -> None:
    with Receiver() as receiver:
        deliver(celery_app, make_config(receiver.url, webhook_allow_private=False))

        assert receiver.rest() == []
    (given_up,) = webhook_store.given_up()
    assert "127.0.0.1, which is not public" in given_up.reason


def test_delivery_that_fails_after_its_time_is_given_up(
    celery_app: Celery, make_config: MakeConfig, webhook_store: WebhookStore
) -> None:
    with Receiver(500) as receiver:
        deliver(celery_app, make_config(receiver.url), since=time.time() - 86_401)

        assert len(receiver.rest()) == 1
    (given_up,) = webhook_store.given_up()
    assert given_up.reason == "it answered 500"


def test_unknown_endpoint_is_retried_on_another_worker(celery_app: Celery, make_config: MakeConfig) -> None:
    with pytest.raises(Retry, match="not among the JOBPUSH_WEBHOOK_URLS of this worker"):
        run_as_in_a_worker(celery_app, make_config(), retries=0, since=time.time(), endpoint="https://new.example/")


def test_list_of_failed_deliveries_is_bounded_expiring_and_newest_first(
    webhook_store: WebhookStore, client: redis.Redis
) -> None:
    for number in range(GIVEN_UP_KEPT + 5):
        webhook_store.give_up(Delivery(f"id-{number}", "https://a.example/", EVENTS, 1.5), reason="why", tries=3)

    given_up = webhook_store.given_up()
    assert len(given_up) == GIVEN_UP_KEPT
    assert given_up[0].delivery == Delivery(f"id-{GIVEN_UP_KEPT + 4}", "https://a.example/", EVENTS, 1.5)
    assert client.ttl("jobpush:{webhooks}:stream:given-up") > 86_400


# -- the other side ----------------------------------------------------------------------------------


def deliver(app: Celery, config: Config, *, since: float | None = None) -> Any:
    """Run the task here and now; its retries follow at once."""
    task = register_delivery(app, lambda: config)
    (endpoint,) = configured_endpoints(config)
    return task.apply([endpoint.name, EVENTS, time.time() if since is None else since], task_id="id-1")


def run_as_in_a_worker(app: Celery, config: Config, *, retries: int, since: float, endpoint: str | None = None) -> None:
    """Run the task once, as a worker does, so that its retry goes to the broker."""
    task = register_delivery(app, lambda: config)
    arguments = [endpoint or configured_endpoints(config)[0].name, EVENTS, since]
    task.push_request(
        id="id-1",
        retries=retries,
        args=arguments,
        kwargs={},
        called_directly=False,
        delivery_info={"routing_key": "celery"},
    )
    try:
        task.run(*arguments)
    finally:
        task.pop_request()


def next_message(app: Celery) -> Any:
    with app.connection() as connection, connection.SimpleQueue("celery") as messages:
        return messages.get(timeout=PATIENCE)


@contextmanager
def closed_port() -> Iterator[int]:
    """A port on which nobody listens, and nobody else can."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextmanager
def dripping() -> Iterator[str]:
    """A server that sends the head of its answer for ever, byte by byte."""
    done = threading.Event()

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):  # until the other side has had enough
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not done.wait(0.02):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        done.set()
        thread.join()
