"""Worker leases: the tasks of a dead worker are lost, and a gateway publishes that."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable

import pytest
import redis

from jobpush.channels import user_topic
from jobpush.config import Config
from jobpush.events import TaskEvent
from jobpush.lifecycle import TaskState
from jobpush.store import Store, TaskWrite
from jobpush.store.worker_leases import WORKER_DIED, Claim, WorkerLeases


class Worker:
    """One worker as Redis sees it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.leases = WorkerLeases(store.config)
        self.worker_id = uuid.uuid4().hex

    def hold(self) -> bool:
        return bool(self.store.run(self.leases.hold(self.worker_id))[0] == 1)

    def publish(self, task_id: str, state: str, *, handed: bool = False) -> None:
        event = TaskEvent(task_id, TaskState(state), created_at=1.0)
        delivery = f"of-{self.worker_id}"
        write = TaskWrite("a:b", event, delivery=delivery, worker=self.worker_id, is_handed_over=handed)
        self.store.publish([write])

    def die(self) -> None:
        self.store.run([("ZADD", self.store.keys.workers, 1, self.worker_id)])


def reap(store: Store) -> int:
    """Reap dead workers as a gateway does; return the number of claims."""
    leases, count = WorkerLeases(store.config), 0
    for worker in store.run([leases.find_dead()])[0]:
        worker_id = worker.decode()
        while members := store.run([leases.claims_of(worker_id)])[0]:
            claims = [Claim.read(member) for member in members]
            store.run([*(leases.lose(claim, WORKER_DIED) for claim in claims), leases.drop(worker_id, *claims)])
            count += len(claims)
        store.run([leases.forget_dead(worker_id)])
    return count


@pytest.fixture
def new_worker(store: Store) -> Callable[[], Worker]:
    def begin() -> Worker:
        worker = Worker(store)
        assert not worker.hold()
        return worker

    return begin


@pytest.mark.parametrize("state", ["RECEIVED", "STARTED"])
def test_tasks_of_a_dead_worker_are_lost(
    store: Store, client: redis.Redis, new_worker: Callable[[], Worker], state: str
) -> None:
    worker = new_worker()
    worker.publish("t:1", state)
    worker.die()

    assert reap(store) == 1

    event = store.task("t:1")
    assert (event.state, event.error) == (TaskState.LOST, WORKER_DIED)
    assert not client.exists(store.keys.workers, store.keys.worker_claims(worker.worker_id))


@pytest.mark.parametrize("end", ["SUCCESS", "FAILURE", "REVOKED", "RETRY"])
def test_ended_tasks_of_a_dead_worker_are_not_lost(store: Store, new_worker: Callable[[], Worker], end: str) -> None:
    worker = new_worker()
    for state in ("RECEIVED", "STARTED", end):
        worker.publish("t1", state)
    worker.die()

    assert reap(store) == 0
    assert store.task("t1").state is TaskState(end)


def test_task_that_another_worker_continues_is_not_lost(store: Store, new_worker: Callable[[], Worker]) -> None:
    dead, living = new_worker(), new_worker()
    dead.publish("t1", "STARTED")
    living.publish("t1", "STARTED")
    dead.die()

    reap(store)

    assert (store.task("t1").state, store.task("t1").attempt) == (TaskState.STARTED, 2)


def test_replaced_task_of_a_dead_worker_is_not_lost(store: Store, new_worker: Callable[[], Worker]) -> None:
    worker = new_worker()
    worker.publish("t1", "STARTED")
    worker.publish("t1", "STARTED", handed=True)
    worker.die()

    assert reap(store) == 0


def test_tasks_of_a_live_worker_are_not_lost(store: Store, new_worker: Callable[[], Worker]) -> None:
    worker = new_worker()
    worker.publish("t1", "STARTED")

    assert worker.hold()
    assert reap(store) == 0


def test_worker_declared_dead_gets_a_failed_renewal(store: Store, new_worker: Callable[[], Worker]) -> None:
    worker = new_worker()
    worker.die()
    reap(store)

    assert not worker.hold()
    assert worker.hold()


def test_renewal_never_creates_a_lease(store: Store, new_worker: Callable[[], Worker]) -> None:
    worker = new_worker()
    worker.publish("t1", "STARTED")
    renew = worker.leases.hold(worker.worker_id, only_renew=True)
    assert store.run(renew)[:1] == [1]
    worker.die()

    assert store.run(renew)[:1] == [0]

    assert reap(store) == 1
    assert not worker.hold()  # so it states its claims again


def test_concurrent_reapers_publish_each_loss_once(redis_url: str, new_worker: Callable[[], Worker]) -> None:
    worker = new_worker()
    for number in range(300):
        worker.publish(f"t{number}", "STARTED")
    stores = [Store(Config(redis_url=redis_url, publish_timeout=10)) for _ in range(3)]
    worker.die()

    threads = [threading.Thread(target=reap, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    events = stores[0].tasks("a:b")
    assert {(event.state, event.seq) for event in events} == {(TaskState.LOST, 2)}
    for store in stores:
        store.close()


def test_claims_expire_without_a_gateway(store: Store, client: redis.Redis, new_worker: Callable[[], Worker]) -> None:
    worker = new_worker()
    worker.publish("t1", "STARTED")

    worker.hold()

    assert client.ttl(store.keys.worker_claims(worker.worker_id)) > 0
    assert client.ttl(store.keys.task(user_topic("a:b"), "t1")) > 0
