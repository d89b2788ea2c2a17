"""The names in Redis: buckets spread evenly, and one slot for every script, transaction and pair of names."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from typing import Any

import pytest

from jobpush.channels import Topic, parse_channel, user_topic, watch_topic
from jobpush.config import Config
from jobpush.events import TaskEvent, TaskState
from jobpush.store import Membership, Store, TaskWrite, WorkflowPlan, scripts
from jobpush.store.keys import Keys, bucket_tags, slot_of, tag_of
from jobpush.store.presence import Presence
from jobpush.store.scripts import Call, Script
from jobpush.store.task_calls import TaskCalls
from jobpush.store.worker_leases import Claim, WorkerLeases

CONFIG = Config(redis_url="redis://localhost:6379/3")
CLUSTER_WITH_WEBHOOKS = Config(redis_url="redis+cluster://localhost", webhook_urls=("https://example.com/",))
IDS = ["42", "a:b", "ünï", "x" * 100, "{", "}", "a{b}c", "=u=", "*"]


def slots(call: Call) -> set[int]:
    return {slot_of(key) for key in call.keys}


@pytest.mark.parametrize(("primaries", "expected"), [(3, {85, 86}), (16, {16}), (256, {1})])
def test_tags_spread_the_buckets_evenly(primaries: int, expected: set[int]) -> None:
    counts = Counter(slot_of(tag) * primaries // 16_384 for tag in bucket_tags())

    assert set(counts.values()) == expected
    assert len(counts) == primaries
    assert all(1 <= len(tag) <= 3 for tag in bucket_tags())


def test_tags_and_buckets_never_change() -> None:
    """Another tag or bucket is another layout: processes of both versions would not find each other's data."""
    tags = hashlib.sha256(",".join(bucket_tags()).encode()).hexdigest()

    assert tags == "87fb6563902fac92a946a275823e03bd4cbe43bbe30d739856ded924cec65ac0"
    assert [tag_of(name) for name in ("42", "news", "presence-room")] == ["cw", "ep", "0t"]


def test_ids_spread_over_all_buckets() -> None:
    counts = Counter(tag_of(f"user-{number}") for number in range(25_600))

    assert len(counts) == 256
    assert max(counts.values()) < 150


def test_slot_matches_redis_cluster() -> None:
    """Source: Redis Cluster specification, "Hash tags"."""
    assert slot_of("123456789") == 0x31C3
    assert slot_of("{user1000}.following") == slot_of("{user1000}.followers") == slot_of(b"user1000")
    assert slot_of("foo{}{bar}") == slot_of("foo{}{bar}")


@pytest.mark.parametrize("user", IDS)
def test_keys_made_together_are_those_made_one_by_one(user: str) -> None:
    keys, topic = Keys.of(CONFIG), user_topic(user)
    name = topic.partition(":")[2]
    tag, channel = tag_of(name), Topic(f"channel:{name}")
    watch = keys.topic(watch_topic(name))

    assert keys.of_history(topic) == (keys.stream(topic), keys.floor(topic), keys.tasks(topic))
    assert keys.of_history(channel) == (keys.stream(channel), keys.floor(channel), keys.cache(channel))
    assert keys.of_history(topic, "t1") == (keys.stream(topic), keys.floor(topic), keys.task(topic, "t1"))
    user_keys = keys.connections(topic), keys.users(tag), watch, keys.floor(topic), keys.subscribed(topic)
    assert keys.of_online(tag, name) == user_keys
    assert keys.of_occupancy(tag, name) == (
        keys.connections(channel),
        keys.channels(tag),
        keys.topic(channel),
        keys.published_count(channel),
        keys.floor(channel),
    )


@pytest.mark.parametrize("user", IDS)
def test_all_names_of_a_user_share_a_slot(user: str) -> None:
    keys, topic = Keys.of(CONFIG), user_topic(user)
    name = topic.partition(":")[2]
    tag = tag_of(name)

    names = [
        *keys.of_task(topic, "t1"),
        keys.topic(watch_topic(name)),
        keys.connections(topic),
        keys.users(tag),
        keys.claims(tag, "g1"),
        keys.tombstone(tag, "g1"),
        *keys.log(topic, "t1"),
    ]

    assert len({slot_of(one) for one in names}) == 1
    assert all(one.startswith("jobpush:{") and one.count("{") == 1 for one in names)


def test_pubsub_names_contain_the_database() -> None:
    """Redis' pub/sub has no databases: two applications on ``/0`` and ``/1`` must not receive each other's events."""
    first, second = (Keys.of(Config(redis_url=f"redis://localhost/{number}")) for number in (0, 1))

    assert first.topic(user_topic("42")) != second.topic(user_topic("42"))
    assert first.cancel != second.cancel
    assert first.task(user_topic("42"), "t1") == second.task(user_topic("42"), "t1")


@pytest.mark.parametrize(
    ("url", "database"),
    [
        ("redis://h", 0),
        ("redis://h/5", 5),
        ("redis://h/5?db=7", 7),
        ("unix:///tmp/redis.sock?db=2", 2),
        ("unix:///tmp/3", 0),
        ("redis+sentinel://a,b/primary/4", 4),
        ("redis+cluster://a,b", 0),
    ],
)
def test_database_is_read_from_every_form_of_a_url(url: str, database: int) -> None:
    assert Keys.of(Config(redis_url=url)).database == database


def all_calls(config: Config) -> list[Call]:
    """Every call that a worker, an application or a gateway makes, for odd ids."""
    calls: list[Call] = []
    tasks = TaskCalls(config)
    for user in IDS:
        topic = user_topic(user)
        event = TaskEvent("a:b", TaskState.STARTED, root_id="r:1", created_at=1.0)
        calls += [
            tasks.publish(TaskWrite(user, event, membership=Membership("0:1")), 0),
            tasks.end(topic, "a:b", TaskState.LOST),
            tasks.regain(topic, "a:b", "d"),
            tasks.cancel(topic, "a:b"),
            tasks.publish_workflow(topic, "a:b"),
            tasks.own("a:b", user, 1),
            tasks.history(f"private-user-{topic.partition(':')[2]}", topic),
            tasks.history("private-task-a", topic),
        ]
    presence = Presence(config, "g1")
    for channel in ("news", "presence-room", "private-task-t1", "private-user-42", "cache-x"):
        kind = parse_channel(channel)
        calls += [
            presence.occupy(kind.occupancy_topic, 1),
            presence.join(channel, "42", "{}"),
            presence.leave(channel, "42"),
            presence.roster(channel),
            *filter(None, [presence.cache_miss(channel), presence.client_event(channel, "client-a", None, "1.1")]),
            *presence.retract_shared([(kind.occupancy_topic, None), (kind.occupancy_topic, "42")]),
            tasks.history(channel, kind.topic or Topic("user:42")),
        ]
    calls += [presence.renew(), presence.find_dead(), presence.resign(), presence.forget_dead("g2")]
    calls += [presence.bury("g2", tag) for tag in bucket_tags()]
    leases = WorkerLeases(config)
    calls += [one for one in leases.hold("w1") if isinstance(one, Call)]
    claim = Claim("42", "t1", "d")
    return [*calls, leases.find_dead(), leases.forget_dead("w1"), leases.lose(claim, "died"), leases.regain(claim)]


@pytest.mark.parametrize("config", [CONFIG, CLUSTER_WITH_WEBHOOKS], ids=["single", "cluster"])
def test_every_call_of_a_script_has_one_slot(config: Config) -> None:
    for call in all_calls(config):
        assert len(slots(call)) == 1, (call.script.name, call.keys)


class Recorder(Store):
    """A store that records its requests instead of sending them."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.requests: list[Any] = []
        self.transactions: list[tuple[str, tuple[Any, ...]]] = []
        self.client.transact = lambda key, *commands: self.transactions.append((key, commands)) or []  # type: ignore

    def run(self, requests: Any, **options: Any) -> list[Any]:
        self.requests += requests
        replies = {scripts.PUBLISH: [1, 1, 0, 0], scripts.APPEND_LOG: []}
        return [replies.get(one.script) if isinstance(one, Call) else b"42" for one in requests]


def test_every_request_and_transaction_of_the_store_has_one_slot() -> None:
    store = Recorder(CONFIG)
    event = TaskEvent("t1", TaskState.PENDING, created_at=1.0)
    store.publish([TaskWrite("42", event, worker="w1", delivery="d", plan=WorkflowPlan(2, 2.0))])
    store.append_log("42", "t1", [])
    store.owner("t1")
    store.record_durations("task", {"stage": 1.0})
    store.lead("queue", "w1", 1.0)

    assert len(store.requests) > 5
    begin = TaskCalls(CONFIG).begin_workflow(TaskWrite("42", event, plan=WorkflowPlan(1, 1.0)))
    assert len({slot_of(str(command[1])) for command in begin}) == 1
    for request in store.requests:
        assert not isinstance(request, Call) or len(slots(request)) == 1
    for key, commands in store.transactions:
        assert {slot_of(str(command[1])) for command in commands} == {slot_of(key)}


def declared() -> list[Script]:
    return [one for one in vars(scripts).values() if isinstance(one, Script)]


@pytest.mark.parametrize("script", declared(), ids=lambda script: script.name)
def test_scripts_use_only_names_derived_from_their_keys(script: Script) -> None:
    """A key is a declared one, or a declared one with something behind it, which has the same tag."""
    source = re.sub(r"--[^\n]*", "", script.source.decode())

    for command, key in re.findall(r"redis\.call\('(\w+)', *([^,)\n]+)", source):
        if command in ("TIME", "INFO"):
            continue
        first = key.split("..")[0].strip()
        is_known = re.fullmatch(r"\w+_key|bar\.(task_)?key|key|leases|key_of\(task_id", first)
        assert is_known, (script.name, command, key)


@pytest.mark.parametrize("script", declared(), ids=lambda script: script.name)
def test_no_name_at_the_top_of_a_script_hides_another(script: Script) -> None:
    """A library's function with the name of an argument would replace the argument."""
    lists = re.findall(r"^local (?:function )?(\w+(?:, \w+)*)", script.source.decode(), re.MULTILINE)
    names = [name for names in lists for name in names.split(", ")]

    assert sorted(set(names)) == sorted(names)


def test_sharded_variants_differ_only_in_the_publish_command() -> None:
    for script in declared():
        source, sha = script.sharded
        assert source.replace(b"'SPUBLISH'", b"'PUBLISH'") == script.source
        assert sha != script.sha


def test_calls_need_every_key_and_argument_by_name() -> None:
    with pytest.raises(TypeError, match=r"own\.lua takes the keys"):
        scripts.OWN(["owner"], user_id="42")
    with pytest.raises(KeyError):
        scripts.OWN(["owner"], user_id="42", seconds=1)
