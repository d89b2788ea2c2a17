"""A gateway on Redis Cluster: one connection pair per primary, sharded pub/sub, and faults of single shards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from jobpush.channels import user_topic
from jobpush.config import Config
from jobpush.events import RESYNC_EVENT
from jobpush.signing import channel_auth
from jobpush.store import Store
from jobpush.store.keys import Keys
from jobpush.testing import PATIENCE
from tests.store.redis.cluster import ClusterServers

from .client import Client, data_of
from .conftest import Serve, Site, serving
from .publishing import finish, publish, start
from .site import KEY, SECRET

ROOM = "presence-room"
ADDED, REMOVED = "pusher_internal:member_added", "pusher_internal:member_removed"


@pytest.fixture
def cluster() -> Iterator[ClusterServers]:
    with ClusterServers() as servers:
        yield servers


@pytest.fixture
def serve(cluster: ClusterServers) -> Iterator[Serve]:
    with serving(cluster.url) as start:
        yield start


@pytest.fixture
def site(serve: Serve) -> Site:
    return serve()


@pytest.fixture
def store(cluster: ClusterServers) -> Iterator[Store]:
    with closing(Store(Config(redis_url=cluster.url, publish_timeout=PATIENCE))) as store:
        yield store


def users_of_all_shards(cluster: ClusterServers, *, each: int = 1) -> list[str]:
    """Return users whose topics lie on the primaries 0, 1 and 2, so many of each."""
    keys, found = Keys(""), dict[int, list[str]]()
    for number in range(100):
        user = f"user-{number}"
        found.setdefault(cluster.primary_of(keys.topic(user_topic(user))), []).append(user)
    return [user for primary in range(3) for user in found[primary][:each]]


def read_tasks(client: Client, until: tuple[str, str]) -> list[dict[str, Any]]:
    """Return the messages up to a task's state, except answers and members."""
    messages = client.receive_until(
        lambda one: one["event"] == "jobpush:task" and (data_of(one)["task_id"], data_of(one)["state"]) == until
    )
    return [one for one in messages if one["event"] in ("jobpush:task", RESYNC_EVENT)]


def bus_messages(cluster: ClusterServers) -> int:
    """Return the number of messages of sharded pub/sub and of pub/sub that all nodes have sent to other nodes."""
    total = 0
    for number in range(6):
        info = cluster.ask(number, "CLUSTER", "INFO")
        text = info.decode() if isinstance(info, bytes) else json.dumps(info).replace('"', "").replace(": ", ":")
        for line in text.replace(", ", "\n").splitlines():
            name, _, value = line.strip("{} \r").partition(":")
            if name in ("cluster_stats_messages_publishshard_sent", "cluster_stats_messages_publish_sent"):
                total += int(value)
    return total


def test_events_members_and_history_of_all_shards_arrive(cluster: ClusterServers, site: Site, store: Store) -> None:
    users = users_of_all_shards(cluster)
    for user in users:
        start(store, user, f"old-{user}")

    clients = {user: site.sign_in(user) for user in users}
    before = bus_messages(cluster)
    for current in range(20):
        for user in users:
            publish(store, user, f"old-{user}", current)
    for user, client in clients.items():
        finish(store, user, f"old-{user}")
        tasks = read_tasks(client, (f"old-{user}", "SUCCESS"))
        assert data_of(tasks[0])["state"] == "STARTED"
        assert RESYNC_EVENT not in [one["event"] for one in tasks]
    assert bus_messages(cluster) - before <= 1.1 * 21 * len(users)

    first, second = site.connect(), site.connect()
    for client in (first, second):
        member = json.dumps({"user_id": client.socket_id, "user_info": {}})
        auth = channel_auth(KEY, SECRET, client.socket_id, ROOM, member)
        answer = client.subscribe(ROOM, auth=auth, channel_data=member)[-1]
        assert answer["event"] == "pusher_internal:subscription_succeeded"
    assert data_of(first.receive_until(lambda one: one["event"] == ADDED)[-1])["user_id"] == second.socket_id
    first.send("client-hello", {"a": 1}, channel=ROOM)
    assert second.receive_until(lambda one: one["event"] == "client-hello")
    store.trigger(["news"], "greeting", {"text": "unread"})
    second.hang_up()
    assert first.receive_until(lambda one: one["event"] == REMOVED)
