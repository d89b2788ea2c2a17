"""Cost of the end of a gateway among many: calls to Redis, counted."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from jobpush.channels import Topic, user_topic
from jobpush.gateway.presence.occupancy import Occupancy
from jobpush.gateway.presence.occupancy_reporter import OccupancyReporter
from jobpush.gateway.presence.reaper import Reaper
from jobpush.protocol.actions import Member
from jobpush.store import Store
from jobpush.store.keys import bucket_tags, tag_of
from jobpush.store.redis.command_connection import ConnectionLost
from jobpush.store.scripts import Call, Command
from tests.store.gateways import Gateway
from tests.waiting import wait_until

ROOM = "presence-room"


class CountingCommands:
    """Commands of all gateways, over one blocking store."""

    is_up = True

    def __init__(self, store: Store) -> None:
        self._store = store
        self.calls = 0
        #: Number of the call that is lost with its connection.
        self.lost = -1
        #: Tag of a bucket on a primary that does not answer.
        self.unreachable = ""

    def call(self, command: Command, callback: Callable[[Any], None] = lambda reply: None) -> None:
        self.calls += 1
        callback(self._store.run([command])[0])

    def run(self, call: Call, callback: Callable[[Any], None] = lambda reply: None) -> None:
        self.calls += 1
        is_lost = self.calls == self.lost or f"{{{self.unreachable}}}" in call.keys[0]
        callback(ConnectionLost() if is_lost else self._store.run([call])[0])


def left_of(store: Store, gateway: Gateway) -> list[bytes]:
    """Return the names of what is stored of a gateway, but for its tombstones."""
    keys = [store.keys.claims(tag, gateway.presence.gateway_id) for tag in bucket_tags()]
    (lease,) = store.run([("ZSCORE", store.keys.gateways, gateway.presence.gateway_id)])
    return [lease] * (lease is not None) + [
        key for key, found in zip(keys, store.run([("EXISTS", key) for key in keys]), strict=True) if found
    ]


def connect_users(gateway: Gateway, numbers: range) -> None:
    """Connect users, each a member of a room."""
    presence = gateway.presence
    gateway.store.run([presence.occupy(user_topic(f"user-{number}"), 1) for number in numbers])
    gateway.store.run([presence.join(ROOM, f"user-{number}", "{}") for number in numbers])


def reporter_of(gateway: Gateway, commands: Any) -> OccupancyReporter:
    """Return the reporter of a gateway whose users have just lost their connections."""
    lease: Any = SimpleNamespace(presence=gateway.presence)
    reporter = OccupancyReporter(
        cast(Any, None), commands, lease, gateway.store.config, lambda topic: 0, lambda topic: None
    )
    for claim in claims_of(gateway):
        topic, _, user_id = claim.partition(" ")
        count = Occupancy(Topic(topic), Member(user_id, "{}") if user_id else None)
        count.may_be_known = True
        reporter._counts[count.key] = count
    return reporter


def claims_of(gateway: Gateway) -> list[str]:
    """Return the claims of a gateway in all buckets."""
    keys = [gateway.store.keys.claims(tag, gateway.presence.gateway_id) for tag in bucket_tags()]
    return [claim.decode() for claims in gateway.store.run([("SMEMBERS", key) for key in keys]) for claim in claims]


@pytest.mark.parametrize("is_stopped", [False, True], ids=["killed", "stopped"])
def test_end_of_one_of_fifty_gateways_takes_fewer_than_two_thousand_calls(store: Store, is_stopped: bool) -> None:
    gateways = [Gateway(store) for _ in range(50)]
    connect_users(gateways[0], range(2_000))
    connect_users(gateways[1], range(1_900))  # the users of a stopped gateway have reconnected, but for some
    commands, answered = CountingCommands(store), []
    if is_stopped:
        reporter_of(gateways[0], commands).retract(lambda: answered.append(commands.calls))
        assert 0 < answered[0] <= 256 + 2_000 // 200
        assert len(claims_of(gateways[0])) == 100 * 2
    gateways[0].die()

    for _ in range(3):  # seconds
        for gateway in gateways[2:]:
            Reaper(commands).look(gateway.presence)

    assert commands.calls < 2_000
    assert left_of(store, gateways[0]) == []
    assert len(gateways[1].roster(ROOM).members) == 1_900
    connections = [store.keys.connections(user_topic(f"user-{number}")) for number in range(2_000)]
    assert sum(store.run([("HLEN", key) for key in connections])) == 1_900


def test_stopping_gateway_is_no_longer_the_reaper(store: Store) -> None:
    stopping, dead, other = Gateway(store), Gateway(store), Gateway(store)
    stopping.run(stopping.presence.find_dead())
    dead.die()
    assert other.run(other.presence.find_dead()) == []

    stopping.run(stopping.presence.resign())

    wait_until(lambda: other.run(other.presence.find_dead()) == [dead.presence.gateway_id.encode()])


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


def test_claims_on_other_primaries_are_retracted_while_one_does_not_answer(store: Store) -> None:
    dead, alive = Gateway(store), Gateway(store)
    connect_users(dead, range(50))
    dead.die()
    commands = CountingCommands(store)
    commands.unreachable = tag_of("user-0")
    reaper = Reaper(commands)

    reaper.look(alive.presence)
    _, *claims = left_of(store, dead)
    assert claims == [store.keys.claims(commands.unreachable, dead.presence.gateway_id)]

    commands.unreachable = ""
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
