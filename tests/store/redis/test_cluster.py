"""Redis Cluster: blocking clients find the primary of each key, also while slots move and after a fail-over."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from redis.client import Pipeline
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from jobpush.channels import Topic, user_topic
from jobpush.cli.diagnosis.finding import Status
from jobpush.cli.diagnosis.redis_server import check_redis
from jobpush.config import Config
from jobpush.errors import CommandRefused, StoreError
from jobpush.events import TaskEvent, TaskState
from jobpush.processes import embedded
from jobpush.store import CancelFeed, Store, TaskWrite
from jobpush.store.keys import SLOTS, bucket_tags, slot_of
from jobpush.store.redis.client import RedisClient
from jobpush.store.redis.cluster import Cluster
from jobpush.store.redis.errors import ShardUnavailable
from jobpush.store.scripts import Call
from jobpush.store.webhooks import WebhookStore
from jobpush.testing import PATIENCE
from tests.waiting import wait_until

from ..gateways import Gateway
from .cluster import ClusterServers

_ECHO = (b"return ARGV[1]", "098e0f0d1448c0a81dafe820f66d460eb09263da")
ECHO: Any = SimpleNamespace(source=_ECHO[0], sha=_ECHO[1], sharded=_ECHO)
#: Enough for every primary to hold some.
KEYS = [f"key-{number}" for number in range(60)]


@pytest.fixture(scope="module")
def shared() -> Iterator[Callable[[], ClusterServers]]:
    """Start one cluster of each program for the tests that leave it as it is."""
    started: dict[str, ClusterServers] = {}
    with ExitStack() as stack:

        def share() -> ClusterServers:
            program = embedded.find_redis_server()
            if program not in started:
                started[program] = stack.enter_context(ClusterServers())
            return started[program]

        yield share


@pytest.fixture
def cluster_servers(shared: Callable[[], ClusterServers]) -> ClusterServers:
    return shared()


@pytest.fixture
def own_cluster_servers() -> Iterator[ClusterServers]:
    """A cluster that the test may break."""
    with ClusterServers() as servers:
        yield servers


@pytest.fixture
def connections(cluster_servers: ClusterServers) -> Iterator[RedisClient]:
    connections = RedisClient(cluster_servers.url, timeout=PATIENCE)
    yield connections
    connections.close()


@pytest.mark.parametrize(
    ("name", "slot"), [("123456789", 12739), ("{user1000}.following", 3443), ("foo{}{bar}", 8363), ("foo{{bar}}", 4015)]
)
def test_slot_of_a_name(name: str, slot: int) -> None:
    """Source: the examples of the Redis Cluster specification, computed with CLUSTER KEYSLOT."""
    assert slot_of(name) == slot


def test_slots_match_the_server(cluster_servers: ClusterServers) -> None:
    for name in ["a", "{a}b", "a{b}", "{}a", "a{b", "{a{b}}", "ä{☃}"]:
        assert slot_of(name) == cluster_servers.ask(0, "CLUSTER", "KEYSLOT", name)


def test_commands_reach_the_primary_of_their_key_and_replies_keep_their_order(connections: RedisClient) -> None:
    connections.run([("SET", key, key) for key in KEYS])

    assert connections.run([("GET", key) for key in KEYS]) == [key.encode() for key in KEYS]


def test_scripts_are_loaded_into_each_primary(connections: RedisClient) -> None:
    assert connections.run([Call(ECHO, [key], [key]) for key in KEYS]) == [key.encode() for key in KEYS]


def test_moved_slot_is_followed(cluster_servers: ClusterServers, connections: RedisClient) -> None:
    key = KEYS[0]
    connections.run([("SET", key, "1")])
    target = (cluster_servers.primary_of(key) + 1) % 3

    cluster_servers.start_migration(key, target)
    assert connections.run([("GET", key), ("SET", f"{{{key}}}new", "2")]) == [b"1", True]  # by ASK
    cluster_servers.finish_migration(key, target)
    assert connections.run([("GET", key), ("GET", f"{{{key}}}new")]) == [b"1", b"2"]  # by MOVED
    assert cluster_servers.primary_of(key) == target

    source = b"return KEYS[1] .. 'moved'"
    sharded = source, hashlib.sha1(source, usedforsecurity=False).hexdigest()
    unknown: Any = SimpleNamespace(source=source, sha=sharded[1], sharded=sharded)
    assert connections.run([Call(unknown, [key], [])]) == [key.encode() + b"moved"]  # loaded where the slot is now


def test_killed_primary_affects_only_its_keys_and_is_one_clear_error(
    own_cluster_servers: ClusterServers,
) -> None:
    connections = RedisClient(own_cluster_servers.url, timeout=PATIENCE)
    connections.run([("SET", key, "1") for key in KEYS])
    killed = own_cluster_servers.primary_of(KEYS[0])
    others = [key for key in KEYS if own_cluster_servers.primary_of(key) != killed]
    wait_until(lambda: own_cluster_servers.ask(killed, "WAIT", 1, 1_000) == 1)
    own_cluster_servers.nodes[killed].kill()

    with pytest.raises(StoreError):
        connections.run([("GET", KEYS[0])])
    assert connections.run([("GET", key) for key in others]) == [b"1"] * len(others)

    def is_back() -> bool:
        try:
            return connections.run([("SET", KEYS[0], "2")]) == [True]
        except StoreError:
            return False

    wait_until(is_back)

    # The slot of a key that no node serves any more.
    key = others[0]
    for number in range(6):
        if own_cluster_servers.nodes[number].is_running:
            own_cluster_servers.ask(number, "CLUSTER", "DELSLOTS", slot_of(key))
    connections = RedisClient(own_cluster_servers.url, timeout=PATIENCE)
    # Either the client knows it, or the node refuses to which another one still sends it.
    with pytest.raises(StoreError, match="the cluster is incomplete"):
        connections.run([("GET", key)])


def test_primary_that_hangs_delays_commands_to_others_once(
    cluster_servers: ClusterServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = RedisClient(cluster_servers.url, timeout=0.5)
    connections.run([("SET", key, key) for key in KEYS])
    hanging = cluster_servers.primary_of(KEYS[0])
    others = [key for key in KEYS if cluster_servers.primary_of(key) != hanging]
    with cluster_servers.without_failovers(), cluster_servers.hanging(hanging):
        with pytest.raises(ShardUnavailable, match="Timeout reading from socket"):
            connections.run([("GET", KEYS[0])])
        assert connections.is_degraded
        asked: list[int] = []
        monkeypatch.setattr(Pipeline, "execute", noting(Pipeline.execute, asked))
        replies = connections.run([("GET", key) for key in KEYS], may_be_partial=True)
        assert [reply for reply in replies if not isinstance(reply, ShardUnavailable)] == [*map(str.encode, others)]
        assert len(asked) == 2
        assert cluster_servers.ports[hanging] not in asked

    wait_until(lambda: connections.run([("GET", KEYS[0])]) == [KEYS[0].encode()])
    assert not connections.is_degraded
    connections.close()


# -- refusals of one primary -------------------------------------------------------------------------


@contextmanager
def without_replicas(cluster: ClusterServers, primary: int) -> Iterator[None]:
    cluster.ask(primary, "CONFIG", "SET", "min-replicas-to-write", 9)
    try:
        yield
    finally:
        cluster.ask(primary, "CONFIG", "SET", "min-replicas-to-write", 0)


@contextmanager
def without_right(cluster: ClusterServers, primary: int) -> Iterator[None]:
    cluster.ask(primary, "ACL", "SETUSER", "default", "-set")
    try:
        yield
    finally:
        cluster.ask(primary, "ACL", "SETUSER", "default", "+@all")


@contextmanager
def with_other_password(cluster: ClusterServers, primary: int) -> Iterator[None]:
    with redis.Redis(port=cluster.ports[primary], protocol=2) as admin:
        admin.config_set("requirepass", "other")
        admin.client_kill_filter(_type="normal", skipme=True)
        try:
            yield
        finally:
            admin.config_set("requirepass", "")


@contextmanager
def busy(cluster: ClusterServers, primary: int) -> Iterator[None]:
    def loop() -> None:
        with suppress(ResponseError):  # the kill
            cluster.ask(primary, "EVAL", "while true do end", 0)

    def is_busy() -> bool:
        try:
            return not cluster.ask(primary, "PING")
        except ResponseError:
            return True

    cluster.ask(primary, "CONFIG", "SET", "lua-time-limit", 1)
    thread = threading.Thread(target=loop)
    thread.start()
    wait_until(is_busy)
    try:
        yield
    finally:
        cluster.ask(primary, "SCRIPT", "KILL")
        thread.join()


def without_slot(cluster: ClusterServers, primary: int) -> AbstractContextManager[None]:
    return cluster.without_slot(KEYS[0])


Fault = Callable[[ClusterServers, int], AbstractContextManager[None]]


@pytest.mark.parametrize(
    "fault", [ClusterServers.full, without_replicas, without_right, with_other_password, busy, without_slot]
)
def test_primary_that_refuses_affects_only_its_keys(cluster_servers: ClusterServers, fault: Fault) -> None:
    connections = RedisClient(cluster_servers.url, timeout=PATIENCE)
    connections.run([("SET", key, "before") for key in KEYS])
    primary = cluster_servers.primary_of(KEYS[0])
    others = [key for key in KEYS if cluster_servers.primary_of(key) != primary]

    with cluster_servers.without_failovers(), fault(cluster_servers, primary):
        for _ in range(2):  # as known, and as found out
            replies = connections.run([("SET", key, "after") for key in KEYS], may_be_partial=True)
            assert isinstance(replies[0], ShardUnavailable)
            assert [replies[KEYS.index(key)] for key in others] == [True] * len(others)
        with pytest.raises(ShardUnavailable):
            connections.run([("SET", KEYS[0], "after")])
        assert connections.outage

    wait_until(lambda: connections.run([("SET", KEYS[0], "after")], may_be_partial=True) == [True])
    wait_until(lambda: not connections.outage)
    connections.close()


class ScriptedPrimaries:
    """Two primaries without a server, each with half of the slots and one reply to all commands."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *replies: object) -> None:
        def read_slots(cluster: Cluster) -> None:
            cluster._slots = [("first", 1)] * (SLOTS // 2) + [("second", 2)] * (SLOTS // 2)

        monkeypatch.setattr(Cluster, "read_slots", read_slots)
        monkeypatch.setattr("jobpush.store.redis.cluster._PAUSE", 0.0)
        monkeypatch.setattr("jobpush.store.redis.cluster._MAX_CHECKS", 0)
        monkeypatch.setattr(Pipeline, "execute", lambda pipeline, **options: self._execute(pipeline))
        self._replies = dict(zip(("first", "second"), replies, strict=True))
        self.client = RedisClient("redis+cluster://first:1,second:2", timeout=PATIENCE)
        self.keys = [next(key for key in KEYS if slot_of(key) * 2 // SLOTS == half) for half in (0, 1)]

    def _execute(self, pipeline: Any) -> Sequence[Any]:
        reply = self._replies[pipeline.connection_pool.connection_kwargs["host"]]
        if isinstance(reply, redis.ConnectionError):  # redis-py ends the connection
            raise reply
        return [reply] * len(pipeline.command_stack)


#: What a server may answer because of its own state.
REFUSALS = [
    OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
    ReadOnlyError("You can't write against a read only replica."),
    MasterDownError("Link with MASTER is down and replica-serve-stale-data is set to 'no'."),
    ClusterDownError("The cluster is down"),
    BusyLoadingError("Redis is loading the dataset in memory"),
    NoPermissionError("this user has no permissions to run the 'set' command"),
    AuthenticationError("WRONGPASS invalid username-password pair or user is disabled."),
    ResponseError("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk."),
    ResponseError("NOREPLICAS Not enough good replicas to write."),
    ResponseError("BUSY Redis is busy running a script."),
    ResponseError("OOM command not allowed when used memory > 'maxmemory'. script: 1, on @user_script:7."),
    ResponseError("Error running script (call to f_1): @user_script:7: Script killed by user with SCRIPT KILL..."),
    ResponseError("ERR max number of clients reached"),
    TryAgainError("Multiple keys request during rehashing of slot"),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
def test_refusal_of_one_primary_is_the_reply_to_its_commands_alone(
    refusal: RedisError, monkeypatch: pytest.MonkeyPatch
) -> None:
    primaries = ScriptedPrimaries(monkeypatch, refusal, b"OK")

    replies = primaries.client.run([("SET", key, "1") for key in primaries.keys], may_be_partial=True)

    assert isinstance(replies[0], ShardUnavailable)
    assert replies[1] == b"OK"


@pytest.mark.parametrize("refusal", REFUSALS[:2], ids=str)
def test_refusal_of_all_primaries_is_an_outage(refusal: RedisError, monkeypatch: pytest.MonkeyPatch) -> None:
    primaries = ScriptedPrimaries(monkeypatch, refusal, refusal)

    with pytest.raises(StoreError) as raised:
        primaries.client.run([("SET", key, "1") for key in primaries.keys], may_be_partial=True)

    assert not isinstance(raised.value, ShardUnavailable)


def test_wrong_command_is_no_outage_of_its_primary(monkeypatch: pytest.MonkeyPatch) -> None:
    primaries = ScriptedPrimaries(monkeypatch, ResponseError("WRONGTYPE Operation against a key"), b"OK")

    with pytest.raises(CommandRefused):
        primaries.client.run([("SET", key, "1") for key in primaries.keys], may_be_partial=True)

    assert not primaries.client.outage


def test_script_is_loaded_into_the_primaries_that_answer(
    cluster_servers: ClusterServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = b"return KEYS[1] .. 'partly'"
    sharded = source, hashlib.sha1(source, usedforsecurity=False).hexdigest()
    script: Any = SimpleNamespace(source=source, sha=sharded[1], sharded=sharded)
    connections = RedisClient(cluster_servers.url, timeout=0.5)
    connections.run([("SET", key, "1") for key in KEYS])
    hanging = cluster_servers.primary_of(KEYS[0])
    load = Cluster.load

    with cluster_servers.without_failovers(), ExitStack() as stack:

        def load_late(cluster: Cluster, scripts: Any) -> Any:
            stack.enter_context(cluster_servers.hanging(hanging))
            return load(cluster, scripts)

        monkeypatch.setattr(Cluster, "load", load_late)
        replies = connections.run([Call(script, [key], []) for key in KEYS], may_be_partial=True)

    for key, reply in zip(KEYS, replies, strict=True):
        if cluster_servers.primary_of(key) == hanging:
            assert isinstance(reply, ShardUnavailable)
        else:
            assert reply == key.encode() + b"partly"
    connections.close()


def test_blocking_reader_follows_a_slot_that_has_moved(cluster_servers: ClusterServers) -> None:
    config = Config(redis_url=cluster_servers.url, prefix="moves", publish_timeout=PATIENCE)
    with closing(Store(config)) as store, closing(CancelFeed(config)) as feed:
        place, key = feed.newest(), store.keys.cancels
        target = (cluster_servers.primary_of(key) + 1) % 3
        cluster_servers.start_migration(key, target)
        cluster_servers.finish_migration(key, target)
        store.run([("XADD", key, "*", "task_id", "task")])

        def was_read() -> bool:
            with suppress(StoreError):
                return feed.read(place, timeout=0.01)[1] == ["task"]
            return False

        wait_until(was_read)


def noting(execute: Callable[..., Any], ports: list[int]) -> Callable[..., Any]:
    """Return ``execute`` of a pipeline, which notes the port of its server."""

    def noted(pipeline: Any, *arguments: Any, **options: Any) -> Any:
        ports.append(pipeline.connection_pool.connection_kwargs["port"])
        return execute(pipeline, *arguments, **options)

    return noted


def test_unreachable_cluster_is_one_clear_error() -> None:
    with pytest.raises(StoreError, match="no node of the cluster answers: 127.0.0.1:1 failed"):
        RedisClient("redis+cluster://127.0.0.1:1", timeout=PATIENCE).run([("GET", "a")])


def test_cluster_node_used_as_a_single_server_is_one_clear_error(cluster_servers: ClusterServers) -> None:
    connections = RedisClient(cluster_servers.nodes[0].url, timeout=PATIENCE)

    with pytest.raises(StoreError, match=r"this server is part of a cluster; use redis\+cluster://"):
        connections.run([("GET", key) for key in KEYS])


def test_threads_share_the_cluster_clients(connections: RedisClient) -> None:
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda key: connections.run([("INCR", f"count-{key}")] * 20), KEYS))

    assert replies == [list(range(1, 21))] * len(KEYS)


def test_store_keeps_tasks_of_many_users_and_publishes_their_events_in_their_shards(
    cluster_servers: ClusterServers,
) -> None:
    users = [f"user-{number}" for number in range(20)]
    writes = [
        TaskWrite(user, TaskEvent(f"task-of-{user}", TaskState.PENDING, "work", "Work", at=1.0, created_at=1.0))
        for user in users
    ]
    with closing(Store(Config(redis_url=cluster_servers.url, publish_timeout=PATIENCE))) as store:
        messages = store.client.subscribe(store.keys.topic(user_topic(users[0])))
        assert next(messages) is None

        store.publish(writes)
        receipt = store.trigger(["news", "private-team-7"], "greeting", {"text": "hello"})

        assert [[task.title for task in store.tasks(user)] for user in users] == [["Work"]] * len(users)
        assert b"task-of-user-0" in (next(messages) or b"")
        assert set(receipt.ids) == {"news", "private-team-7"}
        cancels = store.client.subscribe(store.keys.cancel)
        assert next(cancels) is None
        assert store.cancel("task-of-user-1") is TaskState.REVOKED
        assert next(cancels) == b"task-of-user-1"


def test_webhook_events_of_all_buckets_are_collected_once(cluster_servers: ClusterServers) -> None:
    config = Config(
        redis_url=cluster_servers.url,
        prefix="webhooks",
        publish_timeout=PATIENCE,
        webhook_urls=("https://example.com/",),
    )
    channels = [f"news-{number}" for number in range(20)]
    with (
        closing(Store(config)) as store,
        closing(WebhookStore(config)) as elected,
        closing(WebhookStore(config)) as other,
    ):
        gateway = Gateway(store)
        for channel in channels:
            gateway.occupy(channel, 1)
        elected.join()

        elected.collect("elected")
        other.collect("other")

        entries = other.take("other", count=100, wait=0.01)
        events = [entry.event or {} for entry in entries]
        assert {event["name"] for event in events} == {"channel_occupied"}
        assert sorted(event["channel"] for event in events) == sorted(channels)
        assert elected.take("elected", count=100, wait=0.01) == []
        sources = [("XLEN", store.keys.webhook_source(tag)) for tag in bucket_tags()]
        assert not any(store.run(sources))


def test_webhooks_of_other_primaries_are_collected_while_one_hangs(
    cluster_servers: ClusterServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobpush.store.webhooks._TIMEOUT", 0.5)
    monkeypatch.setattr("jobpush.store.webhooks._COLLECT_EVERY", 0.0)
    config = Config(redis_url=cluster_servers.url, prefix="hangs", webhook_urls=("https://example.com/",))
    with closing(Store(config)) as store, closing(WebhookStore(config)) as webhooks:
        channels = {f"news-{number}": store.keys.topic(Topic(f"channel:news-{number}")) for number in range(20)}
        gateway = Gateway(store)
        for channel in channels:
            gateway.occupy(channel, 1)
        webhooks.join()
        found: set[str] = set()

        def collected() -> set[str]:
            webhooks.collect("elected")
            entries = webhooks.take("elected", count=100, wait=0.01)
            found.update((entry.event or {})["channel"] for entry in entries)
            return found

        hanging = (cluster_servers.primary_of(store.keys.webhooks) + 1) % 3
        others = {name for name, key in channels.items() if cluster_servers.primary_of(key) != hanging}
        with cluster_servers.without_failovers(), cluster_servers.hanging(hanging):
            assert collected() == others
        wait_until(lambda: collected() == set(channels))


def test_webhooks_of_a_primary_that_refuses_to_remove_them_are_collected_once(
    cluster_servers: ClusterServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobpush.store.webhooks._COLLECT_EVERY", 0.0)
    config = Config(redis_url=cluster_servers.url, prefix="refuses", webhook_urls=("https://example.com/",))
    with closing(Store(config)) as store, closing(WebhookStore(config)) as webhooks:
        channels = {f"news-{number}" for number in range(20)}
        gateway = Gateway(store)
        for channel in channels:
            gateway.occupy(channel, 1)
        webhooks.join()
        refusing = (cluster_servers.primary_of(store.keys.webhooks) + 1) % 3
        with cluster_servers.without_failovers(), without_replicas(cluster_servers, refusing):
            for _ in range(3):
                webhooks.collect("elected")
        webhooks.collect("elected")

        entries = webhooks.take("elected", count=100, wait=0.01)
        assert sorted((entry.event or {})["channel"] for entry in entries) == sorted(channels)
        assert not any(store.run([("XLEN", store.keys.webhook_source(tag)) for tag in bucket_tags()]))


def test_doctor_checks_all_slots_and_each_primary(
    cluster_servers: ClusterServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(redis_url=cluster_servers.url, publish_timeout=PATIENCE)
    found = {one.check: one for one in check_redis(config)}
    assert {one.status for one in found.values()} == {Status.OK}
    assert found["redis cluster"].message == "each slot has a primary, 3 in all"

    with monkeypatch.context() as patch:
        primaries = Cluster.primaries
        patch.setattr(Cluster, "primaries", lambda cluster: [*primaries(cluster), ("127.0.0.1", 1)])
        unreachable = {one.check: one for one in check_redis(config)}["redis"]
    assert unreachable.status is Status.FAILED
    assert unreachable.message.startswith("127.0.0.1:1: ")

    slot = slot_of(KEYS[0])
    owner = cluster_servers.primary_of(KEYS[0])
    for number in range(6):
        cluster_servers.ask(number, "CLUSTER", "DELSLOTS", slot)
    (incomplete,) = check_redis(config)
    assert incomplete.status is Status.FAILED
    assert incomplete.message == f"1 of {SLOTS} slots have no primary"

    cluster_servers.ask(owner, "CLUSTER", "ADDSLOTS", slot)
    wait_until(lambda: all(cluster_servers.is_ok(number) for number in range(6)))
