"""The directory of online users and channels: over all live gateways, by the application's own user ids."""

from __future__ import annotations

import json

import pytest
import redis

from jobpush.channels import user_channel, user_topic
from jobpush.config import Config
from jobpush.errors import InvalidUserId, StoreError
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.store import Store
from jobpush.store.directory import CachedEvent, ChannelInfo, RedisDirectory

from .gateways import Gateway

ROOM = "presence-room"


@pytest.fixture
def directory(store: Store) -> RedisDirectory:
    return RedisDirectory(store)


def test_connections_of_a_user_are_summed_over_gateways(store: Store, directory: RedisDirectory) -> None:
    for connections in (2, 3):
        Gateway(store).occupy(user_channel("a:b"), connections)

    assert directory.user("a:b") == 5
    assert directory.is_online("a:b")
    assert not directory.is_online(42)


def test_users_of_a_dead_gateway_are_offline_before_it_is_reaped(store: Store, directory: RedisDirectory) -> None:
    living, dead = Gateway(store), Gateway(store)
    for gateway, users in ((living, ["42"]), (dead, ["42", "43"])):
        gateway.occupy(ROOM, len(users))
        gateway.occupy("news" if gateway is dead else "chat", 1)
        for user in users:
            gateway.join(ROOM, user)
            gateway.occupy(user_channel(user), 1)

    dead.die()

    assert directory.online_users() == (["42"], None)
    assert directory.users_in(ROOM) == ["42"]
    assert directory.user("42") == 1
    assert not directory.is_online("43")
    assert directory.channels() == {"chat": ChannelInfo(1, 0), ROOM: ChannelInfo(1, 1)}
    assert directory.channel("news") == ChannelInfo(0, 0)


def test_online_users_are_paged_without_duplicates(store: Store, directory: RedisDirectory) -> None:
    gateway = Gateway(store)
    users = {f"user:{number}" for number in range(25)}
    store.run([gateway.presence.occupy(f"user:=u=user=3A{number}", 1) for number in range(25)])  # type: ignore[arg-type]

    first, cursor = directory.online_users(limit=10)
    second, cursor = directory.online_users(cursor, limit=10)
    third, end = directory.online_users(cursor, limit=10)

    assert (len(first), len(second), len(third), end) == (10, 10, 5, None)
    assert {*first, *second, *third} == users
    assert sorted(directory.all_online_users()) == sorted(users)


def test_page_continues_after_a_user_that_left(store: Store, directory: RedisDirectory) -> None:
    gateway = Gateway(store)
    for user in ("a", "b", "c"):
        gateway.occupy(user_channel(user), 1)
    (_, second, third), _ = directory.online_users()
    _, cursor = directory.online_users(limit=2)

    gateway.occupy(user_channel(second), 0)

    assert directory.online_users(cursor, limit=2) == ([third], None)


def test_channels_are_listed_by_prefix(store: Store, directory: RedisDirectory) -> None:
    gateway = Gateway(store)
    for channel in ("news", "news-sport", "new", "presence-a", "presence-b", "private-task-t1", "private-user-42"):
        gateway.occupy(channel, 2)
    gateway.join("presence-b", "42")

    assert list(directory.channels("news")) == ["news", "news-sport"]
    assert directory.channels("presence-") == {"presence-a": ChannelInfo(2, 0), "presence-b": ChannelInfo(2, 1)}
    assert list(directory.channels()) == ["new", "news", "news-sport", "presence-a", "presence-b", "private-task-t1"]
    assert directory.channel("private-user-42") == ChannelInfo(2, 0)
    assert directory.channels("*") == {} == directory.channels("zzz")


def test_channels_beyond_one_page_are_listed_once_each(store: Store, directory: RedisDirectory) -> None:
    gateway = Gateway(store)
    names = [f"news-{number:04}" for number in range(2_001)]
    store.run([gateway.presence.occupy(f"channel:{name}", 1) for name in names])  # type: ignore[arg-type]

    assert list(directory.channels("news-")) == names


def test_members_have_the_ids_of_the_application(store: Store, directory: RedisDirectory) -> None:
    gateway = Gateway(store)
    for user_id in ("42", "=u=a=3Ab", 'not escaped "'):
        gateway.join(ROOM, user_id)

    assert sorted(directory.users_in(ROOM)) == ["42", "a:b", 'not escaped "']
    assert directory.users_in("news") == []


def test_cache_channel_returns_its_last_event(store: Store, directory: RedisDirectory) -> None:
    store.trigger(["cache-x", "news"], "item", {"n": 'a "quoted" ü'})

    cache = directory.channel("cache-x").cache

    assert cache is not None
    assert json.loads(cache.data) == {"n": 'a "quoted" ü'}
    assert 0 < cache.ttl <= store.config.cache_ttl
    assert cache == CachedEvent(cache.data, cache.ttl)
    assert directory.channel("cache-y").cache is None
    assert directory.channel("news").cache is None


def test_disconnect_sends_a_command_to_the_gateways(
    store: Store, directory: RedisDirectory, client: redis.Redis
) -> None:
    Gateway(store).occupy(user_channel("a:b"), 2)
    listener = client.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(store.keys.topic(user_topic("a:b")))
    listener.get_message(timeout=5)

    assert directory.disconnect("a:b") == 2
    assert directory.disconnect("nobody") == 0

    message = listener.get_message(timeout=5)
    assert message is not None
    assert message["data"] == b'- ! 0 1 -\n{"command":"disconnect","user":"=u=a=3Ab"}'
    listener.close()


def test_invalid_id_and_unreachable_redis_raise_jobpush_errors(redis_server: EmbeddedRedis, redis_url: str) -> None:
    store = Store(Config(redis_url=redis_url))
    directory = RedisDirectory(store)

    with pytest.raises(InvalidUserId):
        directory.is_online("")
    redis_server.kill()
    with pytest.raises(StoreError):
        directory.is_online("42")
    store.close()
