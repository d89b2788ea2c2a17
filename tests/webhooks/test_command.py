"""``jobpush webhooks``: what was given up, for people and for programs, and how it is sent again."""

from __future__ import annotations

import json

import pytest
import redis
from click.testing import CliRunner

from jobpush.cli import main
from jobpush.store.webhooks import Delivery, WebhookStore

EVENTS = [{"name": "member_added", "channel": "presence-room", "user_id": "[red]42"}] * 2


@pytest.fixture(autouse=True)
def settings(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBPUSH_REDIS_URL", redis_url)
    monkeypatch.setenv("COLUMNS", "120")


def test_terminal_output_is_a_table_newest_first(webhook_store: WebhookStore) -> None:
    webhook_store.give_up(Delivery("id-1", "http://[::1]/old", EVENTS, 1.0), reason="it answered 410", tries=1)
    webhook_store.give_up(Delivery("id-2", "https://a.example/new", EVENTS, 2.0), reason="timed out", tries=99)

    head, newest, oldest = run("webhooks").splitlines()

    assert head.split() == ["when", "endpoint", "events", "tries", "reason"]
    assert newest.split()[2:] == ["https://a.example/new", "2", "member_added", "99", "timed", "out"]
    assert oldest.split()[2:] == ["http://[::1]/old", "2", "member_added", "1", "it", "answered", "410"]


def test_json_output_is_one_object_per_line(webhook_store: WebhookStore) -> None:
    webhook_store.give_up(Delivery("id-1", "https://a.example/", EVENTS, 1.0), reason="it answered 410", tries=1)

    (line,) = run("webhooks", "--json").splitlines()

    given_up = json.loads(line)
    assert given_up["delivery"] == {"id": "id-1", "endpoint": "https://a.example/", "events": EVENTS, "since": 1.0}
    assert (given_up["reason"], given_up["tries"]) == ("it answered 410", 1)


def test_empty_list_is_a_sentence_on_a_terminal_only() -> None:
    assert run("webhooks") == "no webhook was given up\n"
    assert run("webhooks", "--json") == ""


def test_retry_returns_all_deliveries_to_the_stream(webhook_store: WebhookStore, client: redis.Redis) -> None:
    for number in range(3):
        webhook_store.give_up(Delivery(f"id-{number}", "https://a.example/", EVENTS, 1.0), reason="timed out", tries=9)

    assert run("webhooks", "--retry") == "put back into the queue: 3\n"
    assert run("webhooks") == "no webhook was given up\n"
    assert client.xlen("jobpush:{webhooks}:stream") == 3


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result.output
