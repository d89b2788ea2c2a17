"""Cost of the end of a gateway among many: calls to Redis, counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jobpush.channels import Topic
from jobpush.gateway.presence.reaper import Reaper
from jobpush.store import Store
from jobpush.store.keys import bucket_tags, tag_of
from jobpush.store.redis.command_connection import ConnectionLost
from jobpush.store.scripts import Call, Command
from tests.store.gateways import Gateway


class CountingCommands:
    """Commands of all gateways, over one blocking store."""

    is_up = True

    def __init__(self, store: Store) -> None:
        self._store = store
        self.calls = 0
        #: Number of the call that is lost with its connection.
        self.lost = -1

    def call(self, command: Command, callback: Callable[[Any], None] = lambda reply: None) -> None:
        self.calls += 1
        callback(self._store.run([command])[0])

    def run(self, call: Call, callback: Callable[[Any], None] = lambda reply: None) -> None:
        self.calls += 1
        callback(ConnectionLost() if self.calls == self.lost else self._store.run([call])[0])


def left_of(store: Store, gateway: Gateway) -> list[bytes]:
    """Return the names of what is stored of a gateway, but for its tombstones."""
    keys = [store.keys.claims(tag, gateway.presence.gateway_id) for tag in bucket_tags()]
    (lease,) = store.run([("ZSCORE", store.keys.gateways, gateway.presence.gateway_id)])
    return [lease] * (lease is not None) + [
        key for key, found in zip(keys, store.run([("EXISTS", key) for key in keys]), strict=True) if found
    ]


def test_reaping_one_of_fifty_gateways_takes_fewer_than_two_thousand_calls(store: Store) -> None:
    gateways = [Gateway(store) for _ in range(50)]
    for number in range(500):
        gateways[0].occupy(f"private-user-{number}", 1)
    commands = CountingCommands(store)
    gateways[0].renew(gateways[0].epoch, seconds=0)  # what a gateway does that stops, here without a grace

    for _ in range(3):  # seconds
        for gateway in gateways[1:]:
            Reaper(commands).look(gateway.presence)

    assert commands.calls < 2_000
    assert left_of(store, gateways[0]) == []
    assert not any(store.run([("HLEN", store.keys.connections(f"user:{number}")) for number in range(500)]))  # type: ignore[arg-type]


def test_dead_gateway_is_forgotten_after_all_of_its_claims_are_retracted(store: Store) -> None:
    dead, alive = Gateway(store), Gateway(store)
    for number in range(5):
        dead.occupy(f"private-user-{number}", 1)
    dead.die()
    commands, reaper = CountingCommands(store), None
    commands.lost = 100

    reaper = Reaper(commands)
    reaper.look(alive.presence)
    assert left_of(store, dead) != []

    reaper.look(alive.presence)
    assert left_of(store, dead) == []


def test_foreign_claims_and_leases_do_not_stop_the_reaper(store: Store) -> None:
    dead, alive = Gateway(store), Gateway(store)
    dead.occupy("news", 1)
    keys, gateway_id = store.keys, dead.presence.gateway_id
    tag, other = tag_of("news"), next(tag for tag in bucket_tags() if tag != tag_of("news"))
    for claim in (b"\xff", b"garbage", b"channel:news "):
        store.run([("SADD", keys.claims(tag, gateway_id), claim)])  # type: ignore[arg-type]
    store.run([("SADD", keys.claims(other, gateway_id), "channel:news"), ("ZADD", keys.gateways, 1, b"\xff")])  # type: ignore[arg-type]
    dead.die()

    Reaper(CountingCommands(store)).look(alive.presence)  # type: ignore[arg-type]

    assert left_of(store, dead) == []
    assert store.run([("HLEN", keys.connections(Topic("channel:news")))]) == [0]
