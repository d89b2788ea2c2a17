"""Any sequence of joins, leaves, deaths and reaping over three gateways tells exactly what a simple model says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from jobpush.channels import user_channel
from jobpush.cli.embedded import EmbeddedRedis
from jobpush.config import Config
from jobpush.store import Store
from jobpush.store.directory import RedisDirectory
from tests.effort import examples

from .gateways import Ear, Gateway, Told

ROOM = "presence-room"
USERS = st.sampled_from(["1", "2", "3"])
PLACES = st.integers(0, 2)
NUMBERS = st.integers(0, 3)


@dataclass
class Place:
    """What one gateway has said, and whether it still lives."""

    gateway: Gateway
    lives: bool = True
    members: set[str] = field(default_factory=set)
    subscriptions: int = 0
    connections: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class World:
    """What all gateways together make true."""

    members: frozenset[str]
    online: frozenset[str]
    subscriptions: int

    @classmethod
    def of(cls, places: list[Place]) -> World:
        return cls(
            frozenset().union(*(place.members for place in places)),
            frozenset(user for place in places for user, number in place.connections.items() if number),
            sum(place.subscriptions for place in places),
        )

    def news(self, after: World) -> list[dict[str, Any]]:
        """What webhooks are told of the change to another world, in no order."""
        room: dict[str, Any] = {"channel": ROOM}
        news = [room | {"name": "member_added", "user_id": user} for user in after.members - self.members]
        news += [room | {"name": "member_removed", "user_id": user} for user in self.members - after.members]
        news += [{"name": "user_online", "user_id": user} for user in after.online - self.online]
        news += [{"name": "user_offline", "user_id": user} for user in self.online - after.online]
        if bool(self.subscriptions) is not bool(after.subscriptions):
            news.append(room | {"name": "channel_occupied" if after.subscriptions else "channel_vacated"})
        return news


def ordered(events: list[dict[str, Any]]) -> list[list[tuple[str, Any]]]:
    return sorted(sorted(event.items()) for event in events)


def as_webhook(told: Told) -> dict[str, Any]:
    """What was told to browsers, in the form in which webhooks are told the same."""
    if told.event == "watchlist_events":
        ((event,),) = told.data.values()
        (user_id,) = event["user_ids"]
        return {"name": f"user_{event['name']}", "user_id": user_id}
    return {"name": told.event, "channel": told.topic.removeprefix("channel:"), "user_id": told.data["user_id"]}


class PresenceMachine(RuleBasedStateMachine):
    store: Store
    client: redis.Redis

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.ear = Ear(self.client)
        self.directory = RedisDirectory(self.store)
        self.places = [Place(Gateway(self.store)) for _ in range(3)]
        #: Dead, and not reaped yet.
        self.ghosts: list[Place] = []
        self.told = World.of([])

    @rule(index=PLACES, user=USERS)
    def join(self, index: int, user: str) -> None:
        place = self.places[index]
        place.gateway.join(ROOM, user)
        place.members.add(user)

    @rule(index=PLACES, user=USERS)
    def leave(self, index: int, user: str) -> None:
        place = self.places[index]
        place.gateway.leave(ROOM, user)
        place.members.discard(user)

    @rule(index=PLACES, number=NUMBERS)
    def subscribe(self, index: int, number: int) -> None:
        place = self.places[index]
        place.subscriptions = number
        total, _ = place.gateway.occupy(ROOM, number)
        assert total == World.of(self.places + self.ghosts).subscriptions

    @rule(index=PLACES, user=USERS, number=NUMBERS)
    def connect(self, index: int, user: str, number: int) -> None:
        place = self.places[index]
        place.gateway.occupy(user_channel(user), number)
        place.connections[user] = number

    @rule(index=PLACES)
    def die_and_be_replaced(self, index: int) -> None:
        self.places[index].gateway.die()
        self.ghosts.append(self.places[index])
        self.places[index] = Place(Gateway(self.store))

    @precondition(lambda self: self.ghosts)
    @rule(index=PLACES)
    def reap(self, index: int) -> None:
        self.places[index].gateway.reap()
        self.ghosts.clear()

    @invariant()
    def told_is_what_changed(self) -> None:
        world = World.of(self.places + self.ghosts)
        news = self.told.news(world)
        self.told = world

        assert ordered(self.ear.webhooks()) == ordered(news)
        announced = [event for event in news if not event["name"].startswith("channel_")]
        assert ordered([as_webhook(told) for told in self.ear.heard()]) == ordered(announced)

    @invariant()
    def asked_is_who_lives(self) -> None:
        world = World.of(self.places)
        users, cursor = self.directory.online_users()
        info = self.directory.channel(ROOM)

        assert (frozenset(users), cursor) == (world.online, None)
        assert frozenset(self.directory.users_in(ROOM)) == world.members
        assert (info.subscription_count, info.user_count) == (world.subscriptions, len(world.members))
        assert list(self.directory.channels()) == ([ROOM] if world.subscriptions else [])

    def teardown(self) -> None:
        self.ear.close()


@pytest.fixture(scope="module")
def machine() -> Iterator[type[PresenceMachine]]:
    with (
        EmbeddedRedis() as server,
        redis.Redis.from_url(server.url, protocol=2) as client,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("jobpush.store.client._LIVE_GATEWAYS_TTL", 0.0)  # a death counts at once
        store = Store(Config(redis_url=server.url, webhook_urls=("https://example.com/",), publish_timeout=5))
        yield type("Machine", (PresenceMachine,), {"store": store, "client": client})
        store.close()


def test_what_is_told_and_answered_is_what_the_model_says(machine: type[PresenceMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples(60), stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
