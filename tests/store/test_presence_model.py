"""Any sequence of joins, leaves, deaths and reaping over three gateways publishes exactly what a simple model does."""

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
from jobpush.config import Config
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.store import Store
from jobpush.store.directory import RedisDirectory
from tests.effort import examples

from .gateways import Announcement, Gateway, PubSubRecorder

ROOM = "presence-room"
USERS = st.sampled_from(["1", "2", "3"])
PLACES = st.integers(0, 2)
NUMBERS = st.integers(0, 3)


@dataclass
class Place:
    """The statements of one gateway, and whether it is alive."""

    gateway: Gateway
    lives: bool = True
    members: set[str] = field(default_factory=set)
    subscriptions: int = 0
    connections: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class World:
    """The statements of all gateways together."""

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

    def changes(self, after: World) -> list[dict[str, Any]]:
        """Return the webhook events for the change to another world, in no order."""
        room: dict[str, Any] = {"channel": ROOM}
        changes = [room | {"name": "member_added", "user_id": user} for user in after.members - self.members]
        changes += [room | {"name": "member_removed", "user_id": user} for user in self.members - after.members]
        changes += [{"name": "user_online", "user_id": user} for user in after.online - self.online]
        changes += [{"name": "user_offline", "user_id": user} for user in self.online - after.online]
        if bool(self.subscriptions) is not bool(after.subscriptions):
            changes.append(room | {"name": "channel_occupied" if after.subscriptions else "channel_vacated"})
        return changes


def ordered(events: list[dict[str, Any]]) -> list[list[tuple[str, Any]]]:
    return sorted(sorted(event.items()) for event in events)


def as_webhook(announcement: Announcement) -> dict[str, Any]:
    """Return an announcement in its webhook form."""
    if announcement.event == "watchlist_events":
        ((event,),) = announcement.data.values()
        (user_id,) = event["user_ids"]
        return {"name": f"user_{event['name']}", "user_id": user_id}
    return {
        "name": announcement.event,
        "channel": announcement.topic.removeprefix("channel:"),
        "user_id": announcement.data["user_id"],
    }


class PresenceMachine(RuleBasedStateMachine):
    store: Store
    client: redis.Redis

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.recorder = PubSubRecorder(self.client)
        self.directory = RedisDirectory(self.store)
        self.places = [Place(Gateway(self.store)) for _ in range(3)]
        #: Dead gateways that are not reaped yet.
        self.ghosts: list[Place] = []
        self.published = World.of([])

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
    def changes_are_published(self) -> None:
        world = World.of(self.places + self.ghosts)
        changes = self.published.changes(world)
        self.published = world

        assert ordered(self.recorder.webhooks()) == ordered(changes)
        announced = [event for event in changes if not event["name"].startswith("channel_")]
        assert ordered([as_webhook(announcement) for announcement in self.recorder.published()]) == ordered(announced)

    @invariant()
    def questions_count_live_gateways(self) -> None:
        world = World.of(self.places)
        users, cursor = self.directory.online_users()
        info = self.directory.channel(ROOM)

        assert (frozenset(users), cursor) == (world.online, None)
        assert frozenset(self.directory.users_in(ROOM)) == world.members
        assert (info.subscription_count, info.user_count) == (world.subscriptions, len(world.members))
        assert list(self.directory.channels()) == ([ROOM] if world.subscriptions else [])

    def teardown(self) -> None:
        self.recorder.close()


@pytest.fixture(scope="module")
def machine() -> Iterator[type[PresenceMachine]]:
    with (
        EmbeddedRedis() as server,
        redis.Redis.from_url(server.url, protocol=2) as client,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("jobpush.store.base._LIVE_GATEWAYS_TTL", 0.0)  # a death counts at once
        store = Store(Config(redis_url=server.url, webhook_urls=("https://example.com/",), publish_timeout=5))
        yield type("Machine", (PresenceMachine,), {"store": store, "client": client})
        store.close()


def test_scripts_publish_and_answer_as_the_model_does(machine: type[PresenceMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples(60), stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
