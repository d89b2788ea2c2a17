"""Gateway leases: the statements of a gateway that dies, stalls or stops, and of a Redis that loses data."""

from __future__ import annotations

import threading
from collections import Counter

import redis

from jobpush.channels import parse_channel, user_topic
from jobpush.config import Config
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.store import Store
from jobpush.store.presence import NO_LEASE

from .gateways import Announcement, Gateway, PubSubRecorder

ROOM = "presence-room"


def changes(announcements: list[Announcement]) -> list[tuple[str, str]]:
    """Announcements of members and users, by event and user id."""
    pairs = []
    for one in announcements:
        if one.event == "watchlist_events":
            (event,) = one.data["events"]
            pairs += [(event["name"], user_id) for user_id in event["user_ids"]]
        else:
            pairs.append((one.event, one.data["user_id"]))
    return pairs


def settle(gateway: Gateway, user_id: str, *, is_quiet: bool = False) -> None:
    """Connect a user once, as a member of the room."""
    gateway.occupy(f"#server-to-user-{user_id}", 1, is_quiet=is_quiet)
    gateway.occupy(ROOM, 1, is_quiet=is_quiet)
    gateway.join(ROOM, user_id, is_quiet=is_quiet)


def test_killed_gateway_leaves_no_statements(
    webhook_store: Store, recorder: PubSubRecorder, client: redis.Redis
) -> None:
    killed, reaper = Gateway(webhook_store), Gateway(webhook_store)
    settle(killed, "42")
    recorder.published(), recorder.webhooks()
    killed.die()

    assert reaper.reap() == 3
    assert reaper.reap() == 0

    assert sorted(changes(recorder.published())) == [("member_removed", "42"), ("offline", "42")]
    names = sorted(event["name"] for event in recorder.webhooks())
    assert names == ["channel_vacated", "member_removed", "user_offline"]
    assert client.zrange(webhook_store.keys.gateways, 0, -1) == [reaper.presence.gateway_id.encode()]
    left = {key.decode() for key in client.keys()}
    left = {key for key in left if ":tombstone:" not in key and "{live}" not in key and "{webhooks}" not in key}
    assert left == {webhook_store.keys.members_seq(f"channel:{ROOM}")}  # type: ignore[arg-type]
    assert client.ttl(webhook_store.keys.members_seq(f"channel:{ROOM}")) > 0  # type: ignore[arg-type]


def test_user_reconnected_to_another_gateway_is_not_announced(store: Store, recorder: PubSubRecorder) -> None:
    killed, other = Gateway(store), Gateway(store)
    settle(killed, "42")
    recorder.published()
    killed.die()

    settle(other, "42")
    other.reap()

    assert recorder.published() == []
    assert list(other.roster(ROOM).members) == ["42"]


def test_concurrent_reapers_announce_everything_once(redis_url: str, store: Store, recorder: PubSubRecorder) -> None:
    killed = Gateway(store)
    users = [f"user-{number}" for number in range(500)]
    store.run([killed.presence.join(ROOM, user, "{}") for user in users])
    recorder.published()
    stores = [Store(Config(redis_url=redis_url, publish_timeout=10)) for _ in range(2)]
    reapers = [Gateway(store) for store in stores]
    killed.die()

    threads = [threading.Thread(target=reaper.reap) for reaper in reapers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Counter(changes(recorder.published())) == {("member_removed", user): 1 for user in users}
    for one in stores:
        one.close()


def test_live_gateway_is_not_reaped(store: Store, recorder: PubSubRecorder) -> None:
    living, reaper = Gateway(store), Gateway(store)
    settle(living, "42")
    recorder.published()

    assert living.renew(living.epoch).is_held
    assert reaper.reap() == 0
    assert recorder.published() == []


def test_users_of_a_stopped_gateway_stay_for_the_grace(store: Store, client: redis.Redis) -> None:
    gateway = Gateway(store)
    key, gateway_id = store.keys.gateways, gateway.presence.gateway_id
    before = client.zscore(key, gateway_id)

    assert gateway.renew(gateway.epoch, seconds=store.config.grace).is_held

    after = client.zscore(key, gateway_id)
    assert before is not None and after is not None
    assert 0 < before - after <= store.config.lease - store.config.grace


def test_stopped_gateway_keeps_users_that_may_come_back(webhook_store: Store, recorder: PubSubRecorder) -> None:
    stopped, other = Gateway(webhook_store), Gateway(webhook_store)
    users = ["is-back", "comes-back", "leaves"]
    for user_id in users:
        settle(stopped, user_id)
    for gateway in (stopped, other):
        gateway.occupy("news", 1)
    settle(other, "is-back")
    recorder.published(), recorder.webhooks()
    room, news = (parse_channel(name).occupancy_topic for name in (ROOM, "news"))
    statements = [
        (room, None),
        (news, None),
        *((user_topic(one), None) for one in users),
        *((room, one) for one in users),
    ]

    kept = webhook_store.run(stopped.presence.retract_shared(statements))

    assert sum(kept) == 2 * 2, "two users, each online and a member"
    assert [(one.event, one.data) for one in recorder.published()] == [
        ("subscription_count", {"subscription_count": 1})
    ]
    assert [event["name"] for event in recorder.webhooks()] == ["subscription_count"]
    assert set(other.roster(ROOM).members) == set(users)

    settle(other, "comes-back")
    stopped.die()
    other.reap()
    assert sorted(changes(recorder.published())) == [("member_removed", "leaves"), ("offline", "leaves")]


def test_statements_after_an_expired_lease_are_refused(
    store: Store, recorder: PubSubRecorder, client: redis.Redis
) -> None:
    sleeper, reaper = Gateway(store), Gateway(store)
    settle(sleeper, "42")
    sleeper.die()
    reaper.reap()
    recorder.published()

    assert sleeper.occupy("news", 1) == [NO_LEASE, 0]
    assert sleeper.occupy("#server-to-user-42", 1) == [NO_LEASE, 0]
    assert sleeper.join(ROOM, "43") == NO_LEASE
    renewal = sleeper.renew(sleeper.epoch)
    assert not renewal.is_held
    assert renewal.epoch == sleeper.epoch  # nothing was lost: statements under a new id are announced
    assert not client.keys(f"*:claims:{sleeper.presence.gateway_id}")
    settle(Gateway(store), "42")
    assert changes(recorder.published()) == [("online", "42"), ("member_added", "42")]


def test_statements_are_restored_quietly_in_an_emptied_redis(
    webhook_store: Store, recorder: PubSubRecorder, client: redis.Redis
) -> None:
    before = Gateway(webhook_store)
    settle(before, "42")
    recorder.published(), recorder.webhooks()
    client.flushall()

    renewal = before.renew(before.epoch)
    after = Gateway(webhook_store)
    settle(after, "42", is_quiet=True)

    assert not renewal.is_held
    assert renewal.epoch != before.epoch
    assert after.epoch == renewal.epoch
    assert recorder.published() == [] == recorder.webhooks()
    after.leave(ROOM, "42")
    assert changes(recorder.published()) == [("member_removed", "42")]


def test_statements_made_before_a_lost_lease_was_noticed_are_retracted(
    store: Store, recorder: PubSubRecorder, client: redis.Redis
) -> None:
    before = Gateway(store)
    client.flushall()
    settle(before, "42")  # it does not know yet that its lease is gone

    assert not before.renew(before.epoch).is_held
    after = Gateway(store)
    settle(after, "42", is_quiet=True)
    after.leave(ROOM, "42")
    recorder.published()
    before.die()
    after.reap()

    assert ("member_removed", "42") in changes(recorder.published())
    assert not client.keys(f"*:claims:{before.presence.gateway_id}")


def test_redis_restarted_with_old_data_announces_only_users_that_left(
    redis_server: EmbeddedRedis, store: Store
) -> None:
    before, reaper_before = Gateway(store), Gateway(store)
    settle(before, "stays")
    settle(before, "leaves")
    before.die()  # the outage was longer than the lease
    redis_server.restart(keep_data=True)

    renewal = reaper_before.renew(reaper_before.epoch)
    with redis.Redis.from_url(redis_server.url, protocol=2) as client:
        recorder = PubSubRecorder(client)
        after = Gateway(store)
        assert not renewal.is_held
        assert after.epoch == renewal.epoch != before.epoch
        assert after.reap() == 0  # there is time to come back
        settle(after, "stays", is_quiet=True)
        before.die()
        after.reap()

        assert sorted(changes(recorder.published())) == [("member_removed", "leaves"), ("offline", "leaves")]
        recorder.close()
