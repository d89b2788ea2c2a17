"""A gateway on Redis Cluster: one connection pair per primary, sharded pub/sub, and faults of single shards."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing
from typing import Any

import pytest

from jobpush.channels import Topic, parse_channel, user_channel, user_topic
from jobpush.config import Config
from jobpush.errors import StoreError
from jobpush.events import RESYNC_EVENT, TaskEvent, TaskState
from jobpush.reporting.publisher import Publisher
from jobpush.signing import channel_auth
from jobpush.store import Store, TaskWrite
from jobpush.store.keys import Keys, slot_of
from jobpush.testing import PATIENCE
from tests.effort import members, thorough
from tests.store.redis.cluster import (
    ClusterServers,
    fail_over_by_hand,
    hang_primary,
    kill_primary,
    migrate_busiest_slot,
)
from tests.waiting import wait_until

from .client import Client, data_of
from .conftest import Serve, Site, serving
from .publishing import finish, publish, start
from .site import KEY, SECRET

ROOM = "presence-room"
ADDED, REMOVED = "pusher_internal:member_added", "pusher_internal:member_removed"


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterServers]:
    with ClusterServers() as servers:
        yield servers


@pytest.fixture(scope="module")
def serve(cluster: ClusterServers) -> Iterator[Serve]:
    with serving(cluster.url) as start:
        yield start


@pytest.fixture(scope="module")
def site(serve: Serve) -> Site:
    return serve()


@pytest.fixture
def store(cluster: ClusterServers) -> Iterator[Store]:
    with closing(Store(Config(redis_url=cluster.url, publish_timeout=PATIENCE))) as store:
        yield store


def one_of_each_shard(cluster: ClusterServers, prefix: str, topic_of: Callable[[str], Topic]) -> list[str]:
    """Return three names whose topics lie on different primaries."""
    found: dict[int, str] = {}
    for name in (f"{prefix}-{number}" for number in range(100)):
        found.setdefault(cluster.primary_of(Keys("").topic(topic_of(name))), name)
    return list(found.values())


def channel_topic(channel: str) -> Topic:
    return parse_channel(channel).occupancy_topic


def channels_on(cluster: ClusterServers, primary: int, channels: Iterable[str], users: Iterable[str]) -> set[str]:
    """Return those of the channels, and of the users' channels, that lie on a primary."""
    topics = {channel: channel_topic(channel) for channel in channels}
    topics |= {user_channel(user): user_topic(user) for user in users}
    return {name for name, topic in topics.items() if cluster.primary_of(Keys("").topic(topic)) == primary}


def enter(client: Client, room: str) -> None:
    """Become a member of a presence channel."""
    member = json.dumps({"user_id": client.socket_id, "user_info": {}})
    auth = channel_auth(KEY, SECRET, client.socket_id, room, member)
    answer = client.subscribe(room, auth=auth, channel_data=member)[-1]
    assert answer["event"] == "pusher_internal:subscription_succeeded"


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
    users = one_of_each_shard(cluster, "user", user_topic)
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
        enter(client, ROOM)
    assert data_of(first.receive_until(lambda one: one["event"] == ADDED)[-1])["user_id"] == second.socket_id
    first.send("client-hello", {"a": 1}, channel=ROOM)
    assert second.receive_until(lambda one: one["event"] == "client-hello")
    store.trigger(["news"], "greeting", {"text": "unread"})
    second.hang_up()
    assert first.receive_until(lambda one: one["event"] == REMOVED)


# -- faults ------------------------------------------------------------------------------------------


@thorough
def test_primary_that_hangs_delays_no_other_shard(cluster: ClusterServers, site: Site, store: Store) -> None:
    """More clients than histories in flight ask for its topics, and one worker publishes to all primaries."""
    users = one_of_each_shard(cluster, "user-hang", user_topic)
    channels = one_of_each_shard(cluster, "news-hang", channel_topic)
    (waiting, *others), (silent, *audible) = users, channels
    assert cluster.primary_of(Keys("").topic(user_topic(waiting))) == cluster.primary_of(
        Keys("").topic(channel_topic(silent))
    )
    first = site.connect(waiting, client="jobpush")
    first.subscribe(silent)
    worker = Publisher(Store(Config(redis_url=cluster.url)), Config(redis_url=cluster.url), lambda task_id: None)
    submit(worker, users, TaskState.STARTED)
    read_tasks(first, (f"0-of-{waiting}", "STARTED"))
    assert store.tasks(waiting)  # so it knows the slots

    with (
        cluster.without_failovers(),
        cluster.hanging(cluster.primary_of(Keys("").topic(user_topic(waiting)))),
    ):
        crowd = [site.connect() for _ in range(70)]
        for one in crowd:
            one.send("pusher:subscribe", {"channel": silent})
        clients = [site.connect(user, client="jobpush") for user in others]
        for user, channel, client in zip(others, audible, clients, strict=True):
            read_tasks(client, (f"0-of-{user}", "STARTED"))
            client.subscribe(channel)
        for state in (TaskState.PROGRESS, TaskState.SUCCESS):
            submit(worker, users, state)
            for user, client in zip(others, clients, strict=True):
                for number in range(10):
                    read_tasks(client, (f"{number}-of-{user}", state.value))
                assert [task.state for task in store.tasks(user)] == [state] * 10

    read_tasks(first, (f"9-of-{waiting}", "SUCCESS"))
    for one in crowd:
        assert one.receive_until(lambda message: message["event"] == "pusher_internal:subscription_succeeded")
    wait_until(worker._is_idle)
    for user in users:  # each task is found by its id, also one with its owner on the primary that hung
        assert [store.task(f"{number}-of-{user}").state for number in range(10)] == [TaskState.SUCCESS] * 10
    worker.close()


def test_full_primary_stops_only_its_own_tasks(cluster: ClusterServers, site: Site, store: Store) -> None:
    users = one_of_each_shard(cluster, "user-full", user_topic)
    stopped, *others = users
    clients = {user: site.connect(user, client="jobpush") for user in users}
    worker = Publisher(Store(Config(redis_url=cluster.url)), Config(redis_url=cluster.url), lambda task_id: None)
    submit(worker, users, TaskState.STARTED)
    wait_until(worker._is_idle)

    with cluster.full(cluster.primary_of(Keys("").topic(user_topic(stopped)))):
        for state in (TaskState.PROGRESS, TaskState.SUCCESS):
            submit(worker, users, state)
            for user in others:
                for number in range(10):
                    read_tasks(clients[user], (f"{number}-of-{user}", state.value))
        ends = [TaskWrite(user, TaskEvent(f"0-of-{user}", TaskState.SUCCESS, created_at=1.0)) for user in users]
        assert [worker.publish_now([end]) is None for end in ends] == [user is stopped for user in users]
        assert not worker._breaker.is_open

    assert data_of(read_tasks(clients[stopped], (f"9-of-{stopped}", "SUCCESS"))[-1])["seq"]
    wait_until(worker._is_idle)
    for user in users:
        assert [store.task(f"{number}-of-{user}").state for number in range(10)] == [TaskState.SUCCESS] * 10
    worker.close()


def test_slot_without_a_primary_stops_only_its_own_channels(cluster: ClusterServers, site: Site) -> None:
    names = {name: Keys("").topic(channel_topic(name)) for name in (f"news-slot-{number}" for number in range(100))}
    silent = next(iter(names))
    others = [name for name in names if cluster.primary_of(names[name]) == cluster.primary_of(names[silent])]
    audible = [name for name in others if slot_of(names[name]) != slot_of(names[silent])][:5]
    waiting, *clients = [site.connect() for _ in range(6)]
    with cluster.without_slot(names[silent]):
        waiting.send("pusher:subscribe", {"channel": silent})
        for client, channel in zip(clients, audible, strict=True):
            client.subscribe(channel)

    assert waiting.receive_until(lambda message: message["event"] == "pusher_internal:subscription_succeeded")


def submit(worker: Publisher, users: Iterable[str], state: TaskState) -> None:
    """Publish ten tasks of each user, whose ids are spread over all primaries."""
    for user in users:
        for number in range(10):
            worker.submit(TaskWrite(user, TaskEvent(f"{number}-of-{user}", state, created_at=1.0), pinned=True))


class Traffic:
    """Publishes about a user's task and on a channel until it is stopped, each step until Redis has accepted it."""

    def __init__(self, store: Store, user: str, channel: str) -> None:
        self._store, self._user, self._channel = store, user, channel
        self.task_id = f"task-of-{user}"
        self.steps = 0
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def wait_for_steps(self, count: int) -> None:
        until = self.steps + count
        wait_until(lambda: self.steps >= until)

    def stop(self) -> None:
        """End the task and the numbers on the channel."""
        self._is_stopping.set()
        self._thread.join()
        self._accepted(lambda: finish(self._store, self._user, self.task_id))
        self._accepted(lambda: self._store.trigger([self._channel], "end", {}))

    def _run(self) -> None:
        self._accepted(lambda: start(self._store, self._user, self.task_id))
        while not self._is_stopping.wait(0.01):
            self._accepted(lambda: publish(self._store, self._user, self.task_id, self.steps))
            self._accepted(lambda: self._store.trigger([self._channel], "number", {"number": self.steps}))
            self.steps += 1

    def _accepted(self, call: Callable[[], object]) -> None:
        def is_accepted() -> bool:
            try:
                call()
            except StoreError:
                return False
            return True

        wait_until(is_accepted)


def assert_no_gap(messages: Iterable[dict[str, Any]], of_busy_shard: Collection[str]) -> None:
    """
    Check that each gap is a resync, on channels of the busy shard alone, and that nothing else comes twice.

    What Redis accepted without an answer is published again; if the new primary lacks it, with the same ``seq``. A
    primary that was suspended may still publish what it had received. The numbers restart below that after a resync.
    """
    seq, next_number = 0, None
    last: dict[str, Any] = {}
    for message in messages:
        if message["event"] == RESYNC_EVENT:
            assert message["channel"] in of_busy_shard
            next_number = None
            if message["channel"].startswith("#server-to-user-"):
                seq, last = 0, {}
        elif message["event"] == "jobpush:task":
            task = {**data_of(message), "at": 0}
            assert task["seq"] > seq or task == last
            seq, last = task["seq"], task
        elif message["event"] == "number":
            number = data_of(message)["number"]
            assert next_number is None or number in (next_number, next_number - 1)
            next_number = number + 1


@pytest.mark.parametrize("fault", members([migrate_busiest_slot, fail_over_by_hand, hang_primary, kill_primary]))
def test_fault_of_a_shard_loses_no_state_and_leaves_other_shards_alone(
    cluster: ClusterServers, site: Site, store: Store, fault: Callable[[ClusterServers, str], None]
) -> None:
    name = fault.__name__
    users = one_of_each_shard(cluster, f"user-{name}", user_topic)
    channels = one_of_each_shard(cluster, f"news-{name}", channel_topic)
    rooms = one_of_each_shard(cluster, f"presence-{name}", channel_topic)
    clients = [site.connect(user, client="jobpush") for user in users]
    witness = site.connect()
    for client, channel, room in zip(clients, channels, rooms, strict=True):
        assert client.socket_id
        client.subscribe(channel)
        enter(client, room)
        enter(witness, room)
    traffics = [Traffic(store, *pair) for pair in zip(users, channels, strict=True)]
    for traffic in traffics:
        traffic.wait_for_steps(3)

    busy = cluster.primary_of(Keys("").topic(user_topic(users[0])))
    of_busy_shard = channels_on(cluster, busy, [*channels, *rooms], users)
    fault(cluster, Keys("").topic(user_topic(users[0])))

    for traffic in traffics:
        traffic.wait_for_steps(3)
        traffic.stop()
    for user, client, traffic in zip(users, clients, traffics, strict=True):
        messages = client.receive_until(lambda one: one["event"] == "end")
        finals = [one for one in messages if one["event"] == "jobpush:task" and data_of(one)["state"] == "SUCCESS"]
        if not finals:
            messages += (finals := read_tasks(client, (traffic.task_id, "SUCCESS")))
        assert data_of(finals[-1])["task_id"] == traffic.task_id
        assert_no_gap(messages, of_busy_shard)
        assert [task.state for task in store.tasks(user)] == ["SUCCESS"]
        assert REMOVED not in [one["event"] for one in messages]
    store.trigger([rooms[0]], "end", {})
    assert REMOVED not in [one["event"] for one in witness.receive_until(lambda one: one["event"] == "end")]
