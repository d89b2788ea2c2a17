"""The ACL files of each role: enough for everything that the role does, and not for another role."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from jobpush.cli.diagnosis.finding import Status
from jobpush.cli.diagnosis.redis_server import check_redis
from jobpush.config import Config
from jobpush.errors import StoreError
from jobpush.events import TaskEvent, TaskState
from jobpush.store import CancelFeed, Membership, Store, TaskWrite, WorkflowPlan
from jobpush.store.directory import RedisDirectory
from jobpush.store.task_logs import LogEntry
from jobpush.store.webhooks import Delivery, WebhookStore
from jobpush.store.worker_leases import WorkerLeases
from jobpush.testing import PATIENCE
from tests.store.gateways import Gateway

FILES = Path(__file__).parents[2] / "docker" / "acl"
ROLES = ("worker", "gateway", "application")
USER = "42"

Login = Callable[[str], Store]


@pytest.fixture
def login(redis_url: str) -> Iterator[Login]:
    """A store of a role, on a server that has the files."""
    stores = []
    with redis.Redis.from_url(redis_url) as admin:
        for role in ROLES:
            _, name, *rules = (FILES / f"{role}.acl").read_text().split()
            admin.execute_command("ACL", "SETUSER", name, *rules, ">secret")

    def as_role(role: str) -> Store:
        url = redis_url.replace("://", f"://jobpush-{role}:secret@", 1)
        config = Config(redis_url=url, publish_timeout=PATIENCE, webhook_urls=("https://example.com/",))
        stores.append(Store(config))
        return stores[-1]

    yield as_role
    for store in stores:
        store.close()


def run_tasks(store: Store) -> None:
    flow = TaskEvent("flow", TaskState.PENDING, created_at=1.0)
    store.publish([TaskWrite(USER, flow, plan=WorkflowPlan(1, 1.0))])
    for state in (TaskState.PENDING, TaskState.STARTED, TaskState.PROGRESS):
        member = TaskEvent("part", state, created_at=1.0, root_id="flow")
        store.publish([TaskWrite(USER, member, membership=Membership("0:1", True), worker="w1", delivery="d")])
    event = TaskEvent("t1", TaskState.STARTED, name="task", created_at=1.0)
    store.start(TaskWrite(USER, event, worker="w1", delivery="d"))
    store.append_log(USER, "t1", [LogEntry("line", "info", 1.0)])
    store.publish_workflows([(USER, "flow")], is_urgent=True)


def ask(store: Store) -> None:
    store.tasks(USER)
    store.children("flow")
    store.task_log("t1")
    store.cancelled([(USER, "t1")])
    store.cancel("t1")
    store.trigger(["news", "cache-x", "private-task-t1"], "e", 1)
    store.keep_notification(USER, "e", 1)
    store.mark_inbox(USER, "read")
    store.inbox(USER)
    directory = RedisDirectory(store)
    directory.online_users()
    directory.channels()
    directory.channel("cache-x")
    directory.users_in("presence-x")
    directory.disconnect(USER)
    directory.revoked_at(USER)


def test_worker_role_may_run_all_worker_commands(login: Login) -> None:
    store = login("worker")
    store.check_layout()
    store.probe()
    leases = WorkerLeases(store.config)
    store.run(leases.hold("w1"))
    run_tasks(store)
    store.record_durations("task", {"stage": 1.0})
    assert store.lead("queue", "w1", 10)
    assert store.lead("queue", "w1", 10)
    store.end("t1", TaskState.LOST, delivery="d")
    store.run(leases.leave("w1"))
    feed, webhooks = CancelFeed(store.config), WebhookStore(store.config)
    assert next(iter(feed.listen())) is None
    assert feed.read(feed.newest(), timeout=0.01)[1] == []
    webhooks.join()
    assert webhooks.take("w1", count=1, wait=0.01) == []
    webhooks.claim("w1", count=1, idle=0)
    webhooks.give_up(Delivery("d", "e", [], 1.0), reason="gone", tries=1)
    assert webhooks.retry_given_up() == 1
    (entry,) = webhooks.take("w1", count=1, wait=PATIENCE)
    webhooks.acknowledge([entry.id])
    webhooks.forget_vanished(silence=0)
    feed.close()
    webhooks.close()


def test_application_role_may_run_all_application_commands(login: Login) -> None:
    store = login("application")
    store.check_layout()
    run_pending = TaskEvent("t1", TaskState.PENDING, created_at=1.0)
    flow = TaskEvent("flow", TaskState.PENDING, created_at=1.0)
    store.publish([TaskWrite(USER, run_pending), TaskWrite(USER, flow, plan=WorkflowPlan(1, 1.0))])
    ask(store)
    store.erase(USER)


def test_gateway_role_may_run_all_gateway_commands(login: Login) -> None:
    run_tasks(login("worker"))
    store = login("gateway")
    dead, gateway = Gateway(store), Gateway(store)
    for one in (dead, gateway):
        one.occupy("news", 1)
        one.occupy("#server-to-user-42", 1)
        one.join("presence-x", USER)
    dead.die()
    assert gateway.reap() == 3
    gateway.leave("presence-x", USER)
    gateway.roster("presence-x")
    store.run([command for command, _ in gateway.presence.watched([USER])])
    leases = WorkerLeases(store.config)
    store.run([leases.find_dead(), leases.claims_of("w1"), leases.forget_dead("w1")])
    assert next(store.client.subscribe(store.keys.topic("user:42"))) is None  # type: ignore[arg-type]
    ask(store)


@pytest.mark.parametrize("role", ROLES)
def test_doctor_finds_no_fault_with_the_rights_of_a_role(login: Login, role: str) -> None:
    config = login(role).config

    assert [one for one in check_redis(config) if one.status is not Status.OK] == []


@pytest.mark.parametrize(
    ("role", "command"),
    [
        ("worker", ("ZMSCORE", "jobpush:{x}:users", "42")),
        ("worker", ("SRANDMEMBER", "jobpush:{x}:claims:g")),
        ("gateway", ("XREADGROUP", "GROUP", "relay", "g", "STREAMS", "jobpush:{webhooks}:stream", ">")),
        ("gateway", ("BLPOP", "jobpush:x", 1)),
        ("application", ("SRANDMEMBER", "jobpush:{x}:claims:g")),
        ("application", ("XREADGROUP", "GROUP", "relay", "g", "STREAMS", "jobpush:{webhooks}:stream", ">")),
        *((role, ("FLUSHALL",)) for role in ROLES),
        *((role, ("KEYS", "*")) for role in ROLES),
        *((role, ("CONFIG", "SET", "maxmemory", "1")) for role in ROLES),
        *((role, ("GET", "celery")) for role in ROLES),
        *((role, ("PUBLISH", "other", "x")) for role in ROLES),
    ],
)
def test_role_may_not_run_commands_of_others(login: Login, role: str, command: tuple[str | int, ...]) -> None:
    with pytest.raises(StoreError, match="(?i)permission"):
        login(role).run([command])
