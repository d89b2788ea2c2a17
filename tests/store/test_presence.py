"""Who is there, on a real Redis: the first and the last over all gateways are told, once, and nothing else is."""

from __future__ import annotations

import json

import pytest
import redis

from jobpush.config import Config
from jobpush.store import Store
from jobpush.store.presence import Presence
from jobpush.store.replies import read_online

from .gateways import Ear, Gateway, Told

ROOM = "presence-room"
TOPIC = f"channel:{ROOM}"


def added(user_id: str, user_info: object = None, *, excluded: str = "-") -> Told:
    return Told(TOPIC, "member_added", {"user_id": user_id, "user_info": user_info or {}}, excluded)


def removed(user_id: str) -> Told:
    return Told(TOPIC, "member_removed", {"user_id": user_id})


def watched(user_id: str, state: str) -> Told:
    return Told(f"watch:{user_id}", "watchlist_events", {"events": [{"name": state, "user_ids": [user_id]}]})


def counted(channel: str, count: int) -> Told:
    return Told(f"channel:{channel}", "subscription_count", {"subscription_count": count})


# -- members -----------------------------------------------------------------------------------------


def test_a_member_is_announced_once_however_many_tabs_and_gateways(store: Store, ear: Ear) -> None:
    first, second = Gateway(store), Gateway(store)

    replies = [first.join(ROOM, "42"), first.join(ROOM, "42"), second.join(ROOM, "42")]
    replies += [first.leave(ROOM, "42"), first.leave(ROOM, "42"), second.leave(ROOM, "42")]

    assert replies == [1, 0, 0, 0, 0, 1]
    assert ear.heard() == [added("42"), removed("42")]


def test_gateways_are_told_apart_though_one_id_is_part_of_another(store: Store, ear: Ear) -> None:
    longer, shorter = Gateway(store, "g-12"), Gateway(store, "g-1")
    longer.join(ROOM, "42")
    shorter.join(ROOM, "42")

    assert longer.leave(ROOM, "42") == 0
    assert shorter.leave(ROOM, "42") == 1
    assert ear.heard() == [added("42"), removed("42")]


def test_who_joins_does_not_hear_of_it_and_finds_himself_in_the_roster(store: Store, ear: Ear) -> None:
    gateway = Gateway(store)
    gateway.join(ROOM, "41", '{"name":"Ann"}')

    gateway.join(ROOM, "42", '{"name":"Bob \\"B\\" ü"}', socket_id="1.2")
    roster = gateway.roster(ROOM)

    assert ear.heard() == [added("41", {"name": "Ann"}), added("42", {"name": 'Bob "B" ü'}, excluded="1.2")]
    assert roster.members == {"41": '{"name":"Ann"}', "42": '{"name":"Bob \\"B\\" ü"}'}
    assert roster.seq == ear.seqs[-1]


@pytest.mark.parametrize("user_id", ['a"b', "a\\b", "a b|c", "line\nfeed", "ünï", "\ud800", "\x7f", "*", "}", "%s"])
def test_any_user_id_arrives_as_it_is(store: Store, ear: Ear, user_id: str) -> None:
    gateway, reaper = Gateway(store), Gateway(store)

    gateway.join(ROOM, user_id, json.dumps({"name": user_id}))
    members = gateway.roster(ROOM).members
    gateway.die()
    reaper.reap()

    assert members == {user_id: json.dumps({"name": user_id})}
    assert ear.heard() == [added(user_id, {"name": user_id}), removed(user_id)]


def test_announcements_are_numbered_in_order_even_over_an_emptied_redis(
    store: Store, ear: Ear, client: redis.Redis
) -> None:
    gateway = Gateway(store)
    gateway.join(ROOM, "42")
    gateway.leave(ROOM, "42")
    client.flushall()

    Gateway(store).join(ROOM, "42")
    ear.heard()

    assert ear.seqs == sorted(set(ear.seqs))
    assert len(ear.seqs) == 3


def test_the_cost_of_a_join_does_not_grow_with_the_channel(store: Store, client: redis.Redis) -> None:
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


def test_nothing_is_vacated_while_someone_is_there_by_another_gateway(telling_store: Store, ear: Ear) -> None:
    first, second = Gateway(telling_store), Gateway(telling_store)

    totals = [first.occupy("news", 2)[0], second.occupy("news", 3)[0], first.occupy("news", 0)[0]]
    kinds = [event["name"] for event in ear.webhooks() if event["name"] != "subscription_count"]

    assert totals == [2, 5, 3]
    assert kinds == ["channel_occupied"]
    second.occupy("news", 0)
    assert {"name": "channel_vacated", "channel": "news"} in ear.webhooks()


def test_a_user_comes_and_goes_for_those_who_watch_him(telling_store: Store, ear: Ear) -> None:
    first, second = Gateway(telling_store), Gateway(telling_store)

    first.occupy("#server-to-user-42", 2)
    second.occupy("private-user-42", 1)
    requests = first.presence.watched(["42", "43"])
    replies = telling_store.run([command for command, _ in requests])
    first.occupy("#server-to-user-42", 0)
    second.occupy("private-user-42", 0)

    assert [read_online(ids, reply) for (_, ids), reply in zip(requests, replies, strict=True)] == [["42"], []]
    assert ear.heard() == [watched("42", "online"), watched("42", "offline")]
    assert ear.webhooks() == [{"name": "user_online", "user_id": "42"}, {"name": "user_offline", "user_id": "42"}]


def test_saying_the_same_again_changes_and_tells_nothing(telling_store: Store, ear: Ear) -> None:
    gateway = Gateway(telling_store)
    gateway.occupy("news", 2)
    gateway.occupy("#server-to-user-42", 1)
    ear.heard(), ear.webhooks()

    assert gateway.occupy("news", 2) == [2, 0]
    assert gateway.occupy("#server-to-user-42", 1) == [1, 0]
    assert gateway.occupy("other", 0) == [0, 0]
    assert ear.heard() == [] == ear.webhooks()


def test_a_tasks_channel_does_not_make_its_owner_online(store: Store, ear: Ear) -> None:
    Gateway(store).occupy("private-task-t1", 1)

    assert ear.heard() == []


# -- subscription_count ------------------------------------------------------------------------------


def test_a_channel_is_told_each_count_up_to_a_hundred(telling_store: Store, ear: Ear) -> None:
    gateway = Gateway(telling_store)

    waits = [gateway.occupy("news", count)[1] for count in (1, 2, 100, 99)]

    assert waits == [0, 0, 0, 0]
    assert ear.heard() == [counted("news", count) for count in (1, 2, 100, 99)]
    assert {"name": "subscription_count", "channel": "news", "subscription_count": 99} in ear.webhooks()


def test_a_big_channel_is_told_its_count_when_the_time_has_come(
    telling_store: Store, ear: Ear, client: redis.Redis
) -> None:
    first, second = Gateway(telling_store), Gateway(telling_store)
    first.occupy("news", 101)

    held_back = [first.occupy("news", 102)[1], second.occupy("news", 1)[1]]
    client.delete(telling_store.keys.published_count("channel:news"))  # what time does
    again = [first.occupy("news", 102), second.occupy("news", 1)]

    assert all(0 < wait <= 5_000 for wait in held_back)
    assert again == [[103, 0], [103, 0]]
    assert ear.heard() == [counted("news", 101), counted("news", 103)]


def test_presence_channels_and_those_who_have_not_asked_hear_no_count(
    store: Store, telling_store: Store, ear: Ear
) -> None:
    Gateway(store).occupy("news", 1)
    Gateway(telling_store).occupy(ROOM, 1)

    assert ear.heard() == []


def test_who_comes_back_to_an_empty_channel_is_told_the_count(telling_store: Store, ear: Ear) -> None:
    gateway = Gateway(telling_store)

    for count in (1, 0, 1):
        gateway.occupy("news", count)

    assert ear.heard() == [counted("news", 1), counted("news", 1)]


# -- webhooks ----------------------------------------------------------------------------------------


def test_every_kind_of_event_is_there_for_webhooks(telling_store: Store, ear: Ear, client: redis.Redis) -> None:
    gateway = Gateway(telling_store)

    gateway.join(ROOM, "42")
    gateway.leave(ROOM, "42")
    gateway.run(gateway.presence.client_event(ROOM, "client-typing", '"{\\"a\\":1}"', "1.2", "42"))
    gateway.run(gateway.presence.client_event("private-x", "client-typing", '""', "1.2"))
    gateway.run(gateway.presence.cache_miss("cache-x"))

    ((_, fields), *_) = client.xrange("jobpush:{webhooks}:stream")
    assert abs(int(fields[b"ms"]) / 1000 - client.time()[0]) < 60
    client_event = {"name": "client_event", "event": "client-typing", "socket_id": "1.2"}
    assert ear.webhooks() == [
        {"name": "member_added", "channel": ROOM, "user_id": "42"},
        {"name": "member_removed", "channel": ROOM, "user_id": "42"},
        client_event | {"channel": ROOM, "data": '{"a":1}', "user_id": "42"},
        client_event | {"channel": "private-x", "data": ""},
        {"name": "cache_miss", "channel": "cache-x"},
    ]


def test_without_urls_nothing_is_kept_for_webhooks(store: Store, client: redis.Redis) -> None:
    gateway = Gateway(store)
    gateway.join(ROOM, "42")
    gateway.occupy("news", 1)
    gateway.occupy("#server-to-user-42", 1)

    assert not client.exists("jobpush:{webhooks}:stream")
    assert Presence(Config(), "g").cache_miss("cache-x") is None
    assert Presence(Config(), "g").client_event("private-x", "client-a", '""', "1.2") is None
