"""The claims of a worker while one primary of a cluster hangs: each end waits only for the primary of its task."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from jobpush.events import TaskState
from jobpush.queues.celery.worker_leases import LeaseKeeper
from jobpush.reporting.identity import TaskIdentity
from jobpush.reporting.records import Ending
from jobpush.store import Store
from jobpush.store.keys import tag_of
from jobpush.testing import PATIENCE
from tests.store.hanging_shard import HangingShard
from tests.waiting import wait_until


class Request:
    """Replaces Celery's request, which is garbage-collected when the worker has finished it."""

    time_start: float | None = None
    acknowledged = False


@pytest.fixture
def keeper(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[LeaseKeeper]:
    monkeypatch.setattr("jobpush.queues.celery.worker_leases._AT_ONCE", 1)  # as with more messages than fit into one
    keeper = LeaseKeeper(replace(store.config, lost_after=0.6, retry_interval=0.05))
    yield keeper
    keeper._is_stopped.set()


def hold_tasks(keeper: LeaseKeeper, store: Store, ends: TaskState | None) -> list[Request]:
    """Start a task of a user whose primary hangs, and another one; with a known end that is not published."""
    requests = []
    for user in ("silent", "other"):
        requests.append(Request())
        tracked = keeper.take(requests[-1], TaskIdentity(f"of-{user}", user, "encode", "Encode", created_at=1.0))
        store.publish([tracked.write(tracked.event(TaskState.STARTED), task_ttl=60)])
        if ends is not None:
            keeper.record_end(Ending(f"of-{user}", ends, delivery=tracked.delivery))
    return requests


def states(store: Store) -> dict[str, TaskState]:
    return {user: store.task(f"of-{user}").state for user in ("silent", "other")}


@pytest.mark.parametrize("hanging", ["task", "leases", "claims"])
def test_known_ends_wait_only_for_the_primary_of_their_task(keeper: LeaseKeeper, store: Store, hanging: str) -> None:
    tag = {"task": tag_of("silent"), "leases": "live", "claims": f"worker-{keeper.worker_id}"}[hanging]
    requests = hold_tasks(keeper, store, TaskState.SUCCESS)
    shard = HangingShard(tag, keeper._store)
    requests.clear()  # both are over
    keeper.start()

    wait_until(lambda: states(store)["other"] is TaskState.SUCCESS)
    if hanging == "task":
        refused = shard.refused
        wait_until(lambda: shard.refused > refused + 1)  # it is tried again
        assert states(store)["silent"] is TaskState.STARTED

    shard.hangs = False
    wait_until(lambda: states(store)["silent"] is TaskState.SUCCESS)
    wait_until(lambda: not keeper._snapshot())
    assert store.run([("SMEMBERS", store.keys.worker_claims(keeper.worker_id))]) == [set()]


def test_lost_tasks_of_other_primaries_are_published_while_one_hangs(keeper: LeaseKeeper, store: Store) -> None:
    requests = hold_tasks(keeper, store, None)
    shard = HangingShard(tag_of("silent"), keeper._store)
    requests.clear()
    keeper.start()

    wait_until(lambda: states(store) == {"silent": TaskState.STARTED, "other": TaskState.LOST})

    shard.hangs = False
    wait_until(lambda: states(store)["silent"] is TaskState.LOST)


def test_claims_are_published_again_to_the_primaries_that_answer(keeper: LeaseKeeper, store: Store) -> None:
    """A gateway found this worker dead; one of its tasks is on a primary that hangs when the worker is back."""
    requests = hold_tasks(keeper, store, None)
    store.run([keeper._leases.lose(held.claim, "worker died") for held in keeper._snapshot()])
    shard = HangingShard(tag_of("silent"), keeper._store)
    keeper.start()

    wait_until(lambda: states(store) == {"silent": TaskState.LOST, "other": TaskState.STARTED})
    assert len(requests) == 2

    shard.hangs = False
    wait_until(lambda: states(store)["silent"] is TaskState.STARTED)


def test_stopped_worker_leaves_the_claims_of_a_primary_that_hangs_to_its_lease(
    keeper: LeaseKeeper, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    requests = hold_tasks(keeper, store, None)
    keeper._renew()
    (silent, _) = [held.claim for held in keeper._snapshot()]
    HangingShard(tag_of("silent"), keeper._store)

    keeper.stop()

    assert len(requests) == 2
    assert states(store) == {"silent": TaskState.STARTED, "other": TaskState.LOST}
    claims = store.run([("SMEMBERS", store.keys.worker_claims(keeper.worker_id))])
    assert claims == [{str(silent).encode()}]
    assert store.run([("ZSCORE", store.keys.workers, keeper.worker_id)]) != [None]
    assert "1 tasks of this worker are LOST once it is back" in caplog.text


def test_stopping_worker_waits_for_the_primary_of_a_known_end(keeper: LeaseKeeper, store: Store) -> None:
    keeper = LeaseKeeper(replace(store.config, lost_after=PATIENCE, retry_interval=0.05))
    requests = hold_tasks(keeper, store, TaskState.SUCCESS)
    requests.clear()
    shard = HangingShard(tag_of("silent"), keeper._store)
    stopping = threading.Thread(target=keeper.stop)
    stopping.start()
    wait_until(lambda: shard.refused > 1)
    assert states(store) == {"silent": TaskState.STARTED, "other": TaskState.SUCCESS}

    shard.hangs = False
    stopping.join()

    assert states(store) == dict.fromkeys(("silent", "other"), TaskState.SUCCESS)
    assert store.run([("ZSCORE", store.keys.workers, keeper.worker_id)]) == [None]
