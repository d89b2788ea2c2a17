"""What becomes of what a gateway said when it dies, stalls or stops, and when Redis loses data."""

from __future__ import annotations

import threading
from collections import Counter

import redis

from jobpush.cli.embedded import EmbeddedRedis
from jobpush.config import Config
from jobpush.store import Store
from jobpush.store.presence import NO_LEASE

from .gateways import Ear, Gateway, Told

ROOM = "presence-room"


def changes(told: list[Told]) -> list[tuple[str, str]]:
    """Announcements of members and users, by event and user id."""
    pairs = []
    for one in told:
        if one.event == "watchlist_events":
            (event,) = one.data["events"]
            pairs += [(event["name"], user_id) for user_id in event["user_ids"]]
        else:
            pairs.append((one.event, one.data["user_id"]))
    return pairs


def settle(gateway: Gateway, user_id: str, *, is_quiet: bool = False) -> None:
    """Have a user with one connection, who is in the room."""
    gateway.occupy(f"#server-to-user-{user_id}", 1, is_quiet=is_quiet)
    gateway.occupy(ROOM, 1, is_quiet=is_quiet)
    gateway.join(ROOM, user_id, is_quiet=is_quiet)


def test_a_killed_gateway_leaves_nothing(telling_store: Store, ear: Ear, client: redis.Redis) -> None:
    killed, reaper = Gateway(telling_store), Gateway(telling_store)
    settle(killed, "42")
    ear.heard(), ear.webhooks()
    killed.die()

    assert reaper.reap() == 3
    assert reaper.reap() == 0

    assert sorted(changes(ear.heard())) == [("member_removed", "42"), ("offline", "42")]
    names = sorted(event["name"] for event in ear.webhooks())
    assert names == ["channel_vacated", "member_removed", "user_offline"]
    assert client.zrange(telling_store.keys.gateways, 0, -1) == [reaper.presence.gateway_id.encode()]
    left = {key.decode() for key in client.keys()}
    left = {key for key in left if ":tombstone:" not in key and "{live}" not in key and "{webhooks}" not in key}
    assert left == {telling_store.keys.members_seq(f"channel:{ROOM}")}  # type: ignore[arg-type]
    assert client.ttl(telling_store.keys.members_seq(f"channel:{ROOM}")) > 0  # type: ignore[arg-type]


def test_who_is_back_by_another_gateway_is_not_announced(store: Store, ear: Ear) -> None:
    killed, other = Gateway(store), Gateway(store)
    settle(killed, "42")
    ear.heard()
    killed.die()

    settle(other, "42")
    other.reap()

    assert ear.heard() == []
    assert list(other.roster(ROOM).members) == ["42"]


def test_two_who_reap_at_once_announce_everything_once(redis_url: str, store: Store, ear: Ear) -> None:
    killed = Gateway(store)
    users = [f"user-{number}" for number in range(500)]
    store.run([killed.presence.join(ROOM, user, "{}") for user in users])
    ear.heard()
    stores = [Store(Config(redis_url=redis_url, publish_timeout=10)) for _ in range(2)]
    reapers = [Gateway(store) for store in stores]
    killed.die()

    threads = [threading.Thread(target=reaper.reap) for reaper in reapers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Counter(changes(ear.heard())) == {("member_removed", user): 1 for user in users}
    for one in stores:
        one.close()


def test_a_gateway_that_lives_is_not_reaped(store: Store, ear: Ear) -> None:
    living, reaper = Gateway(store), Gateway(store)
    settle(living, "42")
    ear.heard()

    assert living.renew(living.epoch).is_held
    assert reaper.reap() == 0
    assert ear.heard() == []


def test_a_gateway_that_stops_keeps_its_users_for_the_grace(store: Store, client: redis.Redis) -> None:
    gateway = Gateway(store)
    key, gateway_id = store.keys.gateways, gateway.presence.gateway_id
    before = client.zscore(key, gateway_id)

    assert gateway.renew(gateway.epoch, seconds=store.config.grace).is_held

    after = client.zscore(key, gateway_id)
    assert before is not None and after is not None
    assert 0 < before - after <= store.config.lease - store.config.grace


def test_a_gateway_that_slept_too_long_can_say_nothing_more(store: Store, ear: Ear, client: redis.Redis) -> None:
    sleeper, reaper = Gateway(store), Gateway(store)
    settle(sleeper, "42")
    sleeper.die()
    reaper.reap()
    ear.heard()

    assert sleeper.occupy("news", 1) == [NO_LEASE, 0]
    assert sleeper.occupy("#server-to-user-42", 1) == [NO_LEASE, 0]
    assert sleeper.join(ROOM, "43") == NO_LEASE
    renewal = sleeper.renew(sleeper.epoch)
    assert not renewal.is_held
    assert renewal.epoch == sleeper.epoch  # nothing was lost: what it says under a new id is news to the others
    assert not client.keys(f"*:claims:{sleeper.presence.gateway_id}")
    settle(Gateway(store), "42")
    assert changes(ear.heard()) == [("online", "42"), ("member_added", "42")]


def test_an_emptied_redis_is_told_everything_anew_without_a_sound(
    telling_store: Store, ear: Ear, client: redis.Redis
) -> None:
    before = Gateway(telling_store)
    settle(before, "42")
    ear.heard(), ear.webhooks()
    client.flushall()

    renewal = before.renew(before.epoch)
    after = Gateway(telling_store)
    settle(after, "42", is_quiet=True)

    assert not renewal.is_held
    assert renewal.epoch != before.epoch
    assert after.epoch == renewal.epoch
    assert ear.heard() == [] == ear.webhooks()
    after.leave(ROOM, "42")
    assert changes(ear.heard()) == [("member_removed", "42")]


def test_statements_made_before_a_loss_was_noticed_are_retracted(store: Store, ear: Ear, client: redis.Redis) -> None:
    before = Gateway(store)
    client.flushall()
    settle(before, "42")  # it does not know yet that its lease is gone

    assert not before.renew(before.epoch).is_held
    after = Gateway(store)
    settle(after, "42", is_quiet=True)
    after.leave(ROOM, "42")
    ear.heard()
    before.die()
    after.reap()

    assert ("member_removed", "42") in changes(ear.heard())
    assert not client.keys(f"*:claims:{before.presence.gateway_id}")


def test_a_redis_that_came_back_with_old_data_forgets_only_who_has_left(
    redis_server: EmbeddedRedis, store: Store
) -> None:
    before, reaper_before = Gateway(store), Gateway(store)
    settle(before, "stays")
    settle(before, "leaves")
    before.die()  # the outage was longer than the lease
    redis_server.restart(keep_data=True)

    renewal = reaper_before.renew(reaper_before.epoch)
    with redis.Redis.from_url(redis_server.url, protocol=2) as client:
        ear = Ear(client)
        after = Gateway(store)
        assert not renewal.is_held
        assert after.epoch == renewal.epoch != before.epoch
        assert after.reap() == 0  # there is time to come back
        settle(after, "stays", is_quiet=True)
        before.die()
        after.reap()

        assert sorted(changes(ear.heard())) == [("member_removed", "leaves"), ("offline", "leaves")]
        ear.close()
