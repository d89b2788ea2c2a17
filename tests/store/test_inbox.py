"""Inboxes: three states shared by all devices, bounded, expiring; and the erasure of a user."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import redis

from jobpush.channels import user_topic
from jobpush.config import Config
from jobpush.errors import InvalidData, TaskNotFound
from jobpush.events import TaskEvent, TaskState
from jobpush.store import Membership, Store, TaskWrite, WorkflowPlan
from jobpush.store.messages import read_message
from jobpush.store.task_logs import LogEntry
from jobpush.testing import PATIENCE

USER = "a:b"


def states(store: Store) -> list[tuple[bool, bool]]:
    return [(item.seen, item.read) for item in store.inbox(USER)]


@pytest.mark.parametrize("data", [{"message": 'a "b" \\'}, "text", None, [1, 2], "ünï\u202e"])
def test_item_is_read_as_it_was_stored(store: Store, data: Any) -> None:
    item_id = store.keep_notification(USER, "ready", data, title="<b>Done</b>", url="/m/1")

    (item,) = store.inbox(USER)

    assert (item.id, item.event, item.data, item.title, item.url) == (item_id, "ready", data, "<b>Done</b>", "/m/1")
    assert (item.seen, item.read) == (False, False)
    assert abs(item.at - time.time()) < 60
    assert store.inbox("somebody else") == []


def test_items_are_listed_newest_first(store: Store) -> None:
    ids = [store.keep_notification(USER, "e", number) for number in range(5)]

    assert [item.id for item in store.inbox(USER)] == ids[::-1]
    assert [item.data for item in store.inbox(USER, limit=2)] == [4, 3]


def test_items_are_unseen_then_seen_then_read(store: Store) -> None:
    first, second = (store.keep_notification(USER, "e", number) for number in range(2))

    assert store.mark_inbox(USER, "seen") == 2
    assert states(store) == [(True, False), (True, False)]
    assert store.mark_inbox(USER, "read", [first]) == 1
    assert states(store) == [(True, False), (True, True)]
    assert store.mark_inbox(USER, "seen") == 0  # read stays read
    assert store.mark_inbox(USER, "read") == 1
    assert states(store) == [(True, True), (True, True)]
    assert second


@pytest.mark.parametrize("ids", [["1-1"], ["x"], ["", "*", "$"], []])
def test_unknown_ids_change_nothing(store: Store, ids: list[str]) -> None:
    store.keep_notification(USER, "e", 1)

    assert store.mark_inbox(USER, "read", ids) == 0
    assert states(store) == [(False, False)]


def test_unknown_state_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="'gone' is not a state"):
        store.mark_inbox(USER, "gone")


def test_data_without_a_json_form_is_refused(store: Store) -> None:
    with pytest.raises(InvalidData):
        store.keep_notification(USER, "e", float("nan"))
    assert store.inbox(USER) == []


def test_a_large_inbox_is_read_and_marked_in_parts(redis_url: str, client: redis.Redis) -> None:
    store = Store(Config(redis_url=redis_url, publish_timeout=PATIENCE, inbox_size=10_000))
    inbox, _ = store.keys.inbox(user_topic(USER))
    item, now = json.dumps({"event": "e", "data": 1}), int(time.time() * 1000)
    fill = "for n = 0, 9999 do redis.call('XADD', KEYS[1], ARGV[1] .. '-' .. n, 'd', ARGV[2]) end"
    client.eval(fill, 1, inbox, str(now - 1000), item)

    store.keep_notification(USER, "new", 1)
    assert client.xlen(inbox) == 10_000
    assert [entry.event for entry in store.inbox(USER, limit=2)] == ["new", "e"]
    client.config_resetstat()
    assert store.mark_inbox(USER, "read") == 10_000
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] >= 10  # no call blocks Redis for long
    assert store.mark_inbox(USER, "read") == 0
    store.close()


def test_inbox_is_bounded_and_expires(redis_url: str, client: redis.Redis) -> None:
    store = Store(Config(redis_url=redis_url, publish_timeout=PATIENCE, inbox_size=3, inbox_ttl=100))
    for number in range(10):
        store.keep_notification(USER, "e", number)
        store.mark_inbox(USER, "seen")

    inbox, marked = store.keys.inbox(user_topic(USER))
    assert [item.data for item in store.inbox(USER)] == [9, 8, 7]
    assert client.hlen(marked) == 3
    assert 0 < client.ttl(inbox) <= 100
    assert 0 < client.ttl(marked) <= 100
    store.close()


def test_old_items_are_dropped_for_new_ones(redis_url: str, client: redis.Redis) -> None:
    store = Store(Config(redis_url=redis_url, publish_timeout=PATIENCE, inbox_ttl=100))
    inbox, _ = store.keys.inbox(user_topic(USER))
    client.xadd(inbox, {"d": json.dumps({"event": "old"})}, id=f"{int((time.time() - 200) * 1000)}-0")

    store.keep_notification(USER, "new", 1)

    assert [item.event for item in store.inbox(USER)] == ["new"]
    store.close()


def test_every_change_is_published_to_all_devices(store: Store, client: redis.Redis) -> None:
    listener = client.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(store.keys.topic(user_topic(USER)))
    listener.get_message(timeout=5)

    item_id = store.keep_notification(USER, "e", 1)
    store.mark_inbox(USER, "read", [item_id])
    store.mark_inbox(USER, "read", [item_id])  # changes nothing

    received = []
    while message := listener.get_message(timeout=0.2 if len(received) == 2 else PATIENCE):
        frame = json.loads(b"{" + read_message(message["data"]).members + b"}")
        received.append((frame["event"], json.loads(frame["data"])))
    assert received == [("jobpush:inbox", {"id": item_id}), ("jobpush:inbox", {"state": "read"})]
    listener.close()


def test_erase_removes_every_key_of_the_user_and_none_of_others(store: Store, client: redis.Redis) -> None:
    for user in (USER, "other"):
        for task_id in ("t1", "t2"):
            event = TaskEvent(f"{user}-{task_id}", TaskState.SUCCESS, created_at=1.0)
            store.publish([TaskWrite(user, event)])
            store.append_log(user, event.task_id, [LogEntry("secret", "info", 1.0)])
        flow = TaskEvent(f"{user}-flow", TaskState.PENDING, created_at=1.0)
        store.publish([TaskWrite(user, flow, plan=WorkflowPlan(1, 1.0))])
        member = TaskEvent(f"{user}-part", TaskState.STARTED, created_at=1.0, root_id=flow.task_id)
        store.publish([TaskWrite(user, member, membership=Membership("0:1", True))])
        store.keep_notification(user, "e", 1)
        store.mark_inbox(user, "seen")
        store.trigger([f"private-user-{user_topic(user).partition(':')[2]}"], "e", "secret")
    of_others = {key for key in client.keys() if b"other" in key}

    assert store.erase(USER) == 4

    assert set(client.keys()) == of_others
    assert store.tasks(USER) == store.inbox(USER) == []
    with pytest.raises(TaskNotFound):
        store.task(f"{USER}-part")
    assert store.erase(USER) == 0
    assert len(store.tasks("other")) == 3
