"""Stored data after a data loss, an eviction, an overflow, and from a newer version."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from jobpush.channels import Topic, parse_channel, user_topic
from jobpush.config import Config
from jobpush.errors import ConfigurationError, MalformedMessage, StoreError
from jobpush.events import TaskEvent, TaskState
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.store import CancelFeed, Membership, Store, TaskWrite, WorkflowPlan
from jobpush.store.keys import LAYOUT
from jobpush.store.messages import read_event, read_message
from jobpush.store.task_calls import TaskCalls
from jobpush.store.worker_leases import Claim
from jobpush.testing import PATIENCE

from .gateways import Gateway

USER = "42"


def publish(store: Store, task_id: str, state: str, created_at: float = 1.0, **values: Any) -> None:
    event = TaskEvent(task_id, TaskState(state), created_at=created_at, at=created_at, **values)
    store.publish([TaskWrite(USER, event)])


def resume(store: Store, channel: str, since: str = "") -> tuple[str, bool, int]:
    """Position, whether the reader resumes exactly, and the number of messages."""
    topic = parse_channel(channel).topic or user_topic(USER)
    ((position, resumed, messages),) = store.run([TaskCalls(store.config).history(channel, topic, since)])
    return position.decode(), bool(resumed), len(messages)


# -- lost events (fault 4) -------------------------------------------------------------------------------


def ids(store: Store, count: int, channel: str = "news") -> list[str]:
    """Publish events and return their ids, in a later millisecond of Redis: no client resumes in the same one."""
    published = [store.trigger([channel], "e", number).ids[channel] for number in range(count)]
    newest = int(published[-1].partition("-")[0])
    now = 0
    while now <= newest:
        ((seconds, microseconds),) = store.run([("TIME",)])
        now = int(seconds) * 1000 + int(microseconds) // 1000
    return published


def test_resume_is_exact_while_redis_runs(store: Store) -> None:
    position, _, _ = resume(store, "news")
    first, second, third = ids(store, 3)

    assert resume(store, "news", position) == (third, True, 3)
    assert resume(store, "news", first) == (third, True, 2)
    assert resume(store, "news", third) == (third, True, 0)
    assert second != third


@pytest.mark.parametrize("channel", ["news", "private-user-42", "cache-news"])
@pytest.mark.parametrize("has_new_event", [True, False])
def test_resume_from_another_run_of_redis_may_have_a_gap(
    store: Store, client: redis.Redis, channel: str, has_new_event: bool
) -> None:
    """A promoted replica has the events 1 and 2 and the floor of the old primary; 3 and 4 are lost."""
    _, second = ids(store, 2, channel)
    topic = parse_channel(channel).topic
    assert topic is not None
    floor = store.keys.floor(topic)
    client.set(floor, client.get(floor).decode().split(" ")[0] + " " + "0" * 12, keepttl=True)  # type: ignore[union-attr]
    if has_new_event:
        ids(store, 1, channel)

    position, resumed, _ = resume(store, channel, second)

    assert not resumed
    (sixth,) = ids(store, 1, channel)
    assert resume(store, channel, position) == (sixth, True, 1)


def test_resume_is_refused_after_a_restart_of_redis(redis_server: EmbeddedRedis, store: Store) -> None:
    first, _ = ids(store, 2)
    redis_server.restart(keep_data=True)

    assert not resume(store, "news", first)[1]


@pytest.mark.parametrize("has_new_event", [True, False])
def test_resume_is_refused_when_the_history_was_evicted(store: Store, client: redis.Redis, has_new_event: bool) -> None:
    """The floor of a history that had no event yet looks the same to a reader, and is exact."""
    first, second, third = ids(store, 3)
    client.delete(store.keys.stream(Topic("channel:news")))
    if has_new_event:
        ids(store, 1)

    assert not any(resume(store, "news", since)[1] for since in (first, second, third))


def test_resume_is_refused_when_the_floor_was_evicted(store: Store, client: redis.Redis) -> None:
    first, _ = ids(store, 2)
    client.delete(store.keys.floor(Topic("channel:news")))

    assert not resume(store, "news", first)[1]


# -- channels without events (A5) ------------------------------------------------------------------------


@pytest.mark.parametrize("channel", ["news", "private-x", "presence-x", "cache-x", "private-user-7"])
def test_channel_without_events_leaves_no_key(store: Store, client: redis.Redis, channel: str) -> None:
    gateway = Gateway(store)
    before = set(client.keys())

    gateway.occupy(channel, 1)
    resume(store, channel)
    gateway.occupy(channel, 0)

    assert set(client.keys()) == before


def test_channel_with_events_keeps_its_history(store: Store) -> None:
    gateway = Gateway(store)
    gateway.occupy("news", 1)
    position, _, _ = resume(store, "news")
    (first,) = ids(store, 1)
    gateway.occupy("news", 0)

    assert resume(store, "news", position) == (first, True, 1)


# -- the index of tasks (fault 5) ------------------------------------------------------------------------


def test_running_tasks_are_listed_first_and_never_dropped(redis_url: str) -> None:
    store = Store(Config(redis_url=redis_url, publish_timeout=PATIENCE, max_tasks=10, tasks_per_page=4))
    for number in range(3):
        publish(store, f"running-{number}", "STARTED", number)
    for number in range(5):
        publish(store, f"ended-{number}", "SUCCESS", 100 + number)
    for number in range(9):
        publish(store, f"waiting-{number}", "PENDING", 200 + number)

    listed = [task.task_id for start in range(0, 12, 4) for task in store.tasks(USER, start=start)]

    running = [f"running-{number}" for number in (2, 1, 0)]
    assert listed == [*running, *(f"waiting-{number}" for number in range(8, 1, -1))]
    store.close()


def test_running_tasks_may_exceed_the_bound(redis_url: str) -> None:
    store = Store(Config(redis_url=redis_url, publish_timeout=PATIENCE, max_tasks=2))
    for number in range(5):
        publish(store, f"running-{number}", "PROGRESS", number)

    assert len(store.tasks(USER)) == 5
    store.close()


@pytest.mark.parametrize("end", ["publish", "end", "cancel", "lost"])
def test_ended_task_is_no_longer_listed_as_running(store: Store, end: str) -> None:
    for task_id in ("a", "b"):
        store.publish([TaskWrite(USER, TaskEvent(task_id, TaskState.STARTED, created_at=1.0), delivery="d")])
    if end == "publish":
        publish(store, "b", "SUCCESS")
    elif end == "cancel":
        publish(store, "c", "PENDING", 0.5)
        store.cancel("c")
        store.end("b", TaskState.FAILURE, delivery="d")
    else:
        store.end("b", TaskState.LOST if end == "lost" else TaskState.FAILURE, delivery="d")

    assert [task.task_id for task in store.tasks(USER)][:2] == ["a", "b"]
    assert store.tasks(USER)[0].state is TaskState.STARTED


def test_dropped_waiting_task_is_listed_once_it_runs(redis_url: str) -> None:
    store = Store(Config(redis_url=redis_url, publish_timeout=PATIENCE, max_tasks=2))
    for number in range(5):
        publish(store, f"t{number}", "PENDING", number)

    publish(store, "t0", "STARTED", 0)

    assert store.tasks(USER)[0].task_id == "t0"
    store.close()


def test_expired_snapshots_do_not_shorten_a_page(redis_url: str, client: redis.Redis) -> None:
    store = Store(Config(redis_url=redis_url, publish_timeout=PATIENCE, tasks_per_page=3))
    for number in range(8):
        publish(store, f"t{number}", "PENDING", number)
    client.delete(*(store.keys.task(user_topic(USER), f"t{number}") for number in (7, 6, 4)))

    assert [task.task_id for task in store.tasks(USER)] == ["t5", "t3", "t2"]
    store.close()


# -- workflows (C6, C15) ---------------------------------------------------------------------------------


def begin(store: Store, members: int, created_at: float = 1.0) -> None:
    event = TaskEvent("flow", TaskState.PENDING, title="Album", created_at=created_at, at=1.0)
    store.publish([TaskWrite(USER, event, plan=WorkflowPlan(members, float(members)))])


def report(store: Store, member: str, state: str, known: int = 0) -> None:
    event = TaskEvent(member, TaskState(state), name="part", created_at=1.0, at=2.0, root_id="flow")
    store.publish([TaskWrite(USER, event, membership=Membership("0:3", True))], {member: known})


def test_counts_of_a_cancelled_workflow_are_updated_after_its_end(redis_url: str) -> None:
    store = Store(Config(redis_url=redis_url, publish_timeout=PATIENCE, min_interval=0))
    begin(store, 3)
    for member in ("a", "b", "c"):
        report(store, member, "STARTED")
    report(store, "a", "FAILURE")
    ended = store.task("flow")
    assert (ended.state, ended.data["children"]["running"]) == (TaskState.FAILURE, 2)

    report(store, "b", "REVOKED")
    report(store, "c", "SUCCESS")

    after = store.task("flow")
    assert after.state is TaskState.FAILURE
    assert after.data["children"] == {
        "total": 3, "succeeded": 1, "failed": 1, "revoked": 1, "lost": 0, "running": 0,
    }  # fmt: skip
    store.close()


@pytest.mark.parametrize("is_flushed", [True, False])
def test_workflow_with_lost_sums_ends_once(store: Store, client: redis.Redis, is_flushed: bool) -> None:
    begin(store, 3)
    report(store, "a", "STARTED")
    if is_flushed:
        client.flushall()
    else:
        client.delete(store.keys.workflow(user_topic(USER), "flow"))

    report(store, "a", "PROGRESS", known=2)
    report(store, "a", "SUCCESS", known=3)

    flow = store.task("flow")
    assert flow.state is TaskState.LOST
    assert flow.error
    assert flow.title == ("" if is_flushed else "Album")
    frames = [read_event(fields[b"m"])[1] for _, fields in client.xrange(store.keys.stream(user_topic(USER)))]
    assert [frame["state"] for frame in frames if frame["task_id"] == "flow"].count("LOST") == 1


def test_members_may_report_before_their_workflow_begins(store: Store) -> None:
    for member in ("a", "b", "c"):
        report(store, member, "SUCCESS")
    begin(store, 3)
    store.publish_workflows([(USER, "flow")], is_urgent=True)

    assert store.task("flow").state is TaskState.SUCCESS


# -- tolerant readers (fault 11, A6) ---------------------------------------------------------------------


def test_unknown_fields_of_a_header_are_ignored() -> None:
    message = read_message(b'1-2 t1 7 0 - new words\n"event":"e","data":"{}"')

    assert (message.stream_id, message.task_id, message.seq, message.pinned) == (b"1-2", b"t1", 7, False)
    assert message.members == b'"event":"e","data":"{}"'


@pytest.mark.parametrize(
    "payload",
    [b"", b"abc - 0 1 -\n...", b"- - x 1 -\n", b"- - 0 1\n", b"- - 0 1 -", b"1-x - 0 1 -\n", b"\xff", b"-  0 1 -\n"],
)
def test_malformed_message_is_one_typed_error(payload: bytes) -> None:
    with pytest.raises(MalformedMessage):
        read_message(payload)


@pytest.mark.parametrize("members", [b"", b"{", b'"event":1,"data":""', b'"event":"e"', b"[" * 100_000, b"\xff"])
def test_malformed_event_is_one_typed_error(members: bytes) -> None:
    with pytest.raises(MalformedMessage):
        read_event(members)


@pytest.mark.parametrize(
    ("member", "claim"),
    [
        (b"42 t1 d", Claim("42", "t1", "d")),
        (b"42 t1 d new words", Claim("42", "t1", "d")),
        (b"42 t1", Claim("42", "t1", "")),
    ],
)
def test_claims_of_other_versions_are_read(member: bytes, claim: Claim) -> None:
    assert Claim.read(member) == claim


def test_task_with_an_unknown_state_is_left_out_of_lists(store: Store, client: redis.Redis) -> None:
    publish(store, "t1", "STARTED")
    publish(store, "t2", "STARTED")
    client.hset(store.keys.task(user_topic(USER), "t1"), mapping={"state": "PAUSED", "new_field": "x"})

    assert [task.task_id for task in store.tasks(USER)] == ["t2"]


def test_cancel_requests_of_other_versions_are_skipped(store: Store, client: redis.Redis) -> None:
    client.xadd(store.keys.cancels, {"new": "x"})
    client.xadd(store.keys.cancels, {"task_id": "t1", "new": "x"})
    feed = CancelFeed(store.config)

    assert feed.read("0-0", timeout=1)[1] == ["t1"]
    feed.close()


@pytest.mark.parametrize("layout", [str(LAYOUT + 1), "1", "three"])
def test_another_layout_is_refused_with_one_sentence(store: Store, client: redis.Redis, layout: str) -> None:
    client.set(store.keys.layout, layout)

    with pytest.raises(ConfigurationError, match=f"has layout {layout}.*stop all processes.*JOBPUSH_PREFIX"):
        store.check_layout()


def test_gateway_gets_no_lease_on_another_layout(store: Store, client: redis.Redis) -> None:
    client.set(store.keys.layout, LAYOUT + 1)

    with pytest.raises(StoreError, match=f"has layout {LAYOUT + 1} and.*stop all processes.*JOBPUSH_PREFIX"):
        Gateway(store)
    assert not client.exists(store.keys.gateways, store.keys.epoch)


def test_empty_redis_gets_the_layout(store: Store, client: redis.Redis) -> None:
    store.check_layout()
    store.check_layout()

    assert client.get(store.keys.layout) == str(LAYOUT).encode()


# -- two databases (B4) ----------------------------------------------------------------------------------


def test_applications_in_two_databases_are_isolated(redis_url: str, client: redis.Redis) -> None:
    address = redis_url.partition("?")[0]
    stores = [Store(Config(redis_url=f"{address}?db={number}", publish_timeout=PATIENCE)) for number in (0, 1)]
    listener = client.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(stores[0].keys.topic(user_topic(USER)))
    listener.get_message(timeout=5)

    publish(stores[1], "theirs", "STARTED")
    publish(stores[0], "ours", "STARTED")

    message = listener.get_message(timeout=PATIENCE)
    assert message is not None
    assert read_event(read_message(message["data"]).members)[1]["task_id"] == "ours"
    listener.close()
    for store in stores:
        store.close()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"database": 0}, {"database": 1}),
        ({"prefix": "shop"}, {"prefix": "shop:2"}),
        ({"prefix": "sh?p"}, {"prefix": "shop"}),
    ],
)
def test_cancel_and_erasure_leave_the_other_application_alone(
    redis_url: str, first: dict[str, Any], second: dict[str, Any]
) -> None:
    address, stores = redis_url.partition("?")[0], []
    for selected in (first, second):
        url = f"{address}?db={selected.get('database', 0)}"
        prefix = selected.get("prefix", "jobpush")
        stores.append(Store(Config(redis_url=url, prefix=prefix, publish_timeout=PATIENCE)))
    for store in stores:
        publish(store, "same-id", "STARTED")
        store.keep_notification(USER, "news", {})

    stores[0].cancel("same-id")
    stores[0].erase(USER)

    assert (stores[0].tasks(USER), stores[0].inbox(USER)) == ([], [])
    assert [task.task_id for task in stores[1].tasks(USER)] == ["same-id"]
    assert len(stores[1].inbox(USER)) == 1
    assert stores[1].cancelled([(USER, "same-id")]) == set()
    for store in stores:
        store.close()


# -- live gateways (fault 8), and their reaper (fault 7) -------------------------------------------------


def test_live_gateways_are_read_once_a_second(store: Store, client: redis.Redis) -> None:
    Gateway(store)
    store.trigger(["news"], "e", 1)
    client.config_resetstat()

    for number in range(20):
        store.trigger(["news"], "e", number)

    stats: Any = client.info("commandstats")
    assert stats.get("cmdstat_zrangebyscore", {"calls": 0})["calls"] <= 5


def test_one_reaper_is_elected_until_its_term_ends(store: Store, client: redis.Redis) -> None:
    dead, first, second = Gateway(store), Gateway(store), Gateway(store)
    dead.die()

    found = [first.run(first.presence.find_dead()), second.run(second.presence.find_dead())]
    client.delete(store.keys.reaper)  # what time does

    assert found == [[dead.presence.gateway_id.encode()], []]
    assert second.run(second.presence.find_dead()) == found[0]
    assert client.pttl(store.keys.reaper) > 0
