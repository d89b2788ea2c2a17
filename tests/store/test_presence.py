"""Presence on a real Redis: only the first arrival and the last departure over all gateways are published, once."""

from __future__ import annotations

import json

import pytest
import redis

from jobpush.config import Config
from jobpush.store import Store
from jobpush.store.presence import Presence
from jobpush.store.replies import read_online

from .gateways import Announcement, Gateway, PubSubRecorder

ROOM = "presence-room"
TOPIC = f"channel:{ROOM}"


def added(user_id: str, user_info: object = None) -> Announcement:
    return Announcement(TOPIC, "member_added", {"user_id": user_id, "user_info": user_info or {}})


def removed(user_id: str) -> Announcement:
    return Announcement(TOPIC, "member_removed", {"user_id": user_id})


def watched(user_id: str, state: str) -> Announcement:
    return Announcement(f"watch:{user_id}", "watchlist_events", {"events": [{"name": state, "user_ids": [user_id]}]})


def counted(channel: str, count: int) -> Announcement:
    return Announcement(f"channel:{channel}", "subscription_count", {"subscription_count": count})


# -- members -----------------------------------------------------------------------------------------


def test_member_with_several_tabs_and_gateways_is_announced_once(store: Store, recorder: PubSubRecorder) -> None:
    first, second = Gateway(store), Gateway(store)

    replies = [first.join(ROOM, "42"), first.join(ROOM, "42"), second.join(ROOM, "42")]
    replies += [first.leave(ROOM, "42"), first.leave(ROOM, "42"), second.leave(ROOM, "42")]

    assert replies == [1, 0, 0, 0, 0, 1]
    assert recorder.published() == [added("42"), removed("42")]


def test_gateway_ids_with_a_common_prefix_are_distinct(store: Store, recorder: PubSubRecorder) -> None:
    longer, shorter = Gateway(store, "g-12"), Gateway(store, "g-1")
    longer.join(ROOM, "42")
    shorter.join(ROOM, "42")

    assert longer.leave(ROOM, "42") == 0
    assert shorter.leave(ROOM, "42") == 1
    assert recorder.published() == [added("42"), removed("42")]


def test_new_member_is_in_its_own_roster_and_gets_no_member_added(store: Store, recorder: PubSubRecorder) -> None:
    gateway = Gateway(store)
    gateway.join(ROOM, "41", '{"name":"Ann"}')

    gateway.join(ROOM, "42", '{"name":"Bob \\"B\\" ü"}')
    roster = gateway.roster(ROOM)

    assert recorder.published() == [added("41", {"name": "Ann"}), added("42", {"name": 'Bob "B" ü'})]
    assert roster.members == {"41": '{"name":"Ann"}', "42": '{"name":"Bob \\"B\\" ü"}'}
    assert roster.seq == recorder.seqs[-1]


@pytest.mark.parametrize("user_id", ['a"b', "a\\b", "a b|c", "line\nfeed", "ünï", "\ud800", "\x7f", "*", "}", "%s"])
def test_any_user_id_arrives_unchanged(store: Store, recorder: PubSubRecorder, user_id: str) -> None:
    gateway, reaper = Gateway(store), Gateway(store)

    gateway.join(ROOM, user_id, json.dumps({"name": user_id}))
    members = gateway.roster(ROOM).members
    gateway.die()
    reaper.reap()

    assert members == {user_id: json.dumps({"name": user_id})}
    assert recorder.published() == [added(user_id, {"name": user_id}), removed(user_id)]


def test_announcement_numbers_rise_even_after_redis_is_emptied(
    store: Store, recorder: PubSubRecorder, client: redis.Redis
) -> None:
    gateway = Gateway(store)
    gateway.join(ROOM, "42")
    gateway.leave(ROOM, "42")
    client.flushall()

    Gateway(store).join(ROOM, "42")
    recorder.published()

    assert recorder.seqs == sorted(set(recorder.seqs))
    assert len(recorder.seqs) == 3


def test_cost_of_a_join_is_independent_of_the_channel_size(store: Store, client: redis.Redis) -> None:
    gateway = Gateway(store)

    def commands_of_a_join(user_id: str) -> dict[str, int]:
        client.config_resetstat()
        gateway.join(ROOM, user_id)
        ours = {"evalsha", "time", "exists", "hget", "hset", "sadd", "publish", "get", "set"}
        calls = {name.removeprefix("cmdstat_"): row["calls"] for name, row in client.info("commandstats").items()}
        assert {name for name in calls if "|" not in name} <= ours | {"info", "config"}  # each of constant cost
        return {name: calls[name] for name in ours & set(calls)}

    gateway.join(ROOM, "first")
    alone = commands_of_a_join("second")
    store.run([gateway.presence.join(ROOM, f"user-{number}", "{}") for number in range(10_000)])

    assert commands_of_a_join("last") == alone
    assert len(gateway.roster(ROOM).members) == 10_003


# -- connections -------------------------------------------------------------------------------------


def test_channel_is_not_vacated_while_another_gateway_has_subscribers(
    webhook_store: Store, recorder: PubSubRecorder
) -> None:
    first, second = Gateway(webhook_store), Gateway(webhook_store)

    totals = [first.occupy("news", 2)[0], second.occupy("news", 3)[0], first.occupy("news", 0)[0]]
    kinds = [event["name"] for event in recorder.webhooks() if event["name"] != "subscription_count"]

    assert totals == [2, 5, 3]
    assert kinds == ["channel_occupied"]
    second.occupy("news", 0)
    assert {"name": "channel_vacated", "channel": "news"} in recorder.webhooks()


def test_watchers_get_online_and_offline_events(webhook_store: Store, recorder: PubSubRecorder) -> None:
    first, second = Gateway(webhook_store), Gateway(webhook_store)

    first.occupy("#server-to-user-42", 2)
    second.occupy("private-user-42", 1)
    requests = first.presence.watched(["42", "43"])
    replies = webhook_store.run([command for command, _ in requests])
    first.occupy("#server-to-user-42", 0)
    second.occupy("private-user-42", 0)

    assert [read_online(ids, reply) for (_, ids), reply in zip(requests, replies, strict=True)] == [["42"], []]
    assert recorder.published() == [watched("42", "online"), watched("42", "offline")]
    assert recorder.webhooks() == [{"name": "user_online", "user_id": "42"}, {"name": "user_offline", "user_id": "42"}]


def test_repeated_statement_changes_and_publishes_nothing(webhook_store: Store, recorder: PubSubRecorder) -> None:
    gateway = Gateway(webhook_store)
    gateway.occupy("news", 2)
    gateway.occupy("#server-to-user-42", 1)
    recorder.published(), recorder.webhooks()

    assert gateway.occupy("news", 2) == [2, 0]
    assert gateway.occupy("#server-to-user-42", 1) == [1, 0]
    assert gateway.occupy("other", 0) == [0, 0]
    assert recorder.published() == [] == recorder.webhooks()


def test_task_channel_does_not_make_its_owner_online(store: Store, recorder: PubSubRecorder) -> None:
    Gateway(store).occupy("private-task-t1", 1)

    assert recorder.published() == []


# -- subscription_count ------------------------------------------------------------------------------


def test_every_subscription_count_up_to_a_hundred_is_published(webhook_store: Store, recorder: PubSubRecorder) -> None:
    gateway = Gateway(webhook_store)

    waits = [gateway.occupy("news", count)[1] for count in (1, 2, 100, 99)]

    assert waits == [0, 0, 0, 0]
    assert recorder.published() == [counted("news", count) for count in (1, 2, 100, 99)]
    assert {"name": "subscription_count", "channel": "news", "subscription_count": 99} in recorder.webhooks()


def test_subscription_count_of_a_large_channel_is_published_at_intervals(
    webhook_store: Store, recorder: PubSubRecorder, client: redis.Redis
) -> None:
    first, second = Gateway(webhook_store), Gateway(webhook_store)
    first.occupy("news", 101)

    held_back = [first.occupy("news", 102)[1], second.occupy("news", 1)[1]]
    client.delete(webhook_store.keys.published_count("channel:news"))  # what time does
    again = [first.occupy("news", 102), second.occupy("news", 1)]

    assert all(0 < wait <= 5_000 for wait in held_back)
    assert again == [[103, 0], [103, 0]]
    assert recorder.published() == [counted("news", 101), counted("news", 103)]


def test_presence_channels_and_disabled_counts_get_no_subscription_count(
    store: Store, webhook_store: Store, recorder: PubSubRecorder
) -> None:
    Gateway(store).occupy("news", 1)
    Gateway(webhook_store).occupy(ROOM, 1)

    assert recorder.published() == []


def test_first_subscriber_of_an_empty_channel_gets_the_count(webhook_store: Store, recorder: PubSubRecorder) -> None:
    gateway = Gateway(webhook_store)

    for count in (1, 0, 1):
        gateway.occupy("news", count)

    assert recorder.published() == [counted("news", 1), counted("news", 1)]


# -- webhooks ----------------------------------------------------------------------------------------


def test_webhook_stream_gets_every_kind_of_event(
    webhook_store: Store, recorder: PubSubRecorder, client: redis.Redis
) -> None:
    gateway = Gateway(webhook_store)

    gateway.join(ROOM, "42")
    gateway.leave(ROOM, "42")
    gateway.run(gateway.presence.client_event(ROOM, "client-typing", '"{\\"a\\":1}"', "1.2", "42"))
    gateway.run(gateway.presence.client_event("private-x", "client-typing", '""', "1.2"))
    gateway.run(gateway.presence.cache_miss("cache-x"))

    ((_, fields), *_) = client.xrange("jobpush:{webhooks}:stream")
    assert abs(int(fields[b"ms"]) / 1000 - client.time()[0]) < 60
    client_event = {"name": "client_event", "event": "client-typing", "socket_id": "1.2"}
    assert recorder.webhooks() == [
        {"name": "member_added", "channel": ROOM, "user_id": "42"},
        {"name": "member_removed", "channel": ROOM, "user_id": "42"},
        client_event | {"channel": ROOM, "data": '{"a":1}', "user_id": "42"},
        client_event | {"channel": "private-x", "data": ""},
        {"name": "cache_miss", "channel": "cache-x"},
    ]


def test_without_urls_the_webhook_stream_stays_empty(store: Store, client: redis.Redis) -> None:
    gateway = Gateway(store)
    gateway.join(ROOM, "42")
    gateway.occupy("news", 1)
    gateway.occupy("#server-to-user-42", 1)

    assert not client.exists("jobpush:{webhooks}:stream")
    assert Presence(Config(), "g").cache_miss("cache-x") is None
    assert Presence(Config(), "g").client_event("private-x", "client-a", '""', "1.2") is None
