"""Running tasks are cancelled, and a worker's parent terminates those that ignore it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery.concurrency.base import BasePool
from celery.concurrency.thread import TaskPool as ThreadPool
from celery.worker import state as worker_state

from jobpush.config import Config
from jobpush.queues.celery import revoker as revoker_module
from jobpush.queues.celery.revoker import _LEAST_GRACE, Revoker
from jobpush.reporting.identity import TaskIdentity
from jobpush.reporting.running_task import RunningTask
from jobpush.reporting.running_tasks import RunningTasks
from jobpush.store import Store


class Pool(BasePool):
    """A pool that can terminate tasks, as prefork can."""

    def __init__(self) -> None:
        pass

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        """Do nothing; never called in these tests."""


class FakeConsumer:
    """Records the tasks that its worker revokes."""

    def __init__(self) -> None:
        self.app, self.hostname, self.pool = None, "worker@host", Pool()
        self.terminated: list[str] = []
        self.is_disconnected = False

    def call_soon(self, command: Any, state: Any, task_ids: list[str], *, terminate: bool) -> None:
        assert command.__name__ == "revoke" and state.consumer is self
        if not self.is_disconnected and terminate:  # a disconnected consumer drops pending operations
            self.terminated += task_ids


class FakeTime:
    """A clock that the test advances."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def consumer() -> FakeConsumer:
    return FakeConsumer()


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    time = FakeTime()
    monkeypatch.setattr(revoker_module, "time", time)
    return time


@pytest.fixture
def unstoppable() -> list[str]:
    return []


def make_revoker(consumer: FakeConsumer, unstoppable: list[str], monkeypatch: pytest.MonkeyPatch) -> Revoker:
    """Return a revoker without its thread."""
    runtime: Any = SimpleNamespace(
        config=Config(cancel_grace=1.0), running=SimpleNamespace(show_unstoppable=unstoppable.append)
    )
    monkeypatch.setattr(Revoker, "_run", lambda self: None)
    return Revoker(consumer, runtime)


def set_active(monkeypatch: pytest.MonkeyPatch, *requests: tuple[str, str | None]) -> None:
    """Set the active tasks, each with the id of its workflow."""
    active = [SimpleNamespace(id=task_id, request_dict={"jobpush_root": root}) for task_id, root in requests]
    monkeypatch.setattr(worker_state, "active_requests", active)


def test_task_is_terminated_until_it_has_ended(
    consumer: FakeConsumer, time: FakeTime, unstoppable: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    revoker = make_revoker(consumer, unstoppable, monkeypatch)
    set_active(monkeypatch, ("cancelled", None), ("member", "album"), ("other", None))
    revoker._deadlines = {"cancelled": time.now, "album": time.now}

    revoker._end_overdue()
    revoker._end_overdue()
    assert sorted(consumer.terminated) == ["cancelled", "member"]

    time.now += _LEAST_GRACE
    set_active(monkeypatch, ("member", "album"))
    revoker._end_overdue()
    assert sorted(consumer.terminated) == ["cancelled", "member", "member"]

    time.now += _LEAST_GRACE
    set_active(monkeypatch)
    revoker._end_overdue()
    assert len(consumer.terminated) == 3
    assert not revoker._deadlines


def test_task_is_terminated_once_the_broker_is_back(
    consumer: FakeConsumer, time: FakeTime, unstoppable: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    revoker = make_revoker(consumer, unstoppable, monkeypatch)
    set_active(monkeypatch, ("one", None), ("two", None))
    revoker._deadlines = {"one": time.now, "two": time.now}
    consumer.is_disconnected = True
    revoker._end_overdue()

    consumer.is_disconnected = False
    time.now += _LEAST_GRACE
    revoker._end_overdue()

    assert sorted(consumer.terminated) == ["one", "two"]


def test_pool_that_cannot_terminate_is_shown_on_the_bar(
    consumer: FakeConsumer, time: FakeTime, unstoppable: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer.pool = ThreadPool(1)
    revoker = make_revoker(consumer, unstoppable, monkeypatch)
    set_active(monkeypatch, ("cancelled", None))
    revoker._deadlines = {"cancelled": time.now}

    revoker._end_overdue()
    time.now += _LEAST_GRACE
    revoker._end_overdue()

    assert unstoppable == ["cancelled"]
    assert not consumer.terminated


def test_two_deliveries_in_one_process_are_both_cancelled(redis_url: str) -> None:
    config = Config(redis_url=redis_url)
    store = Store(config)
    tasks = RunningTasks(store, config)
    publisher: Any = SimpleNamespace(changed=lambda task: None)
    tracked = TaskIdentity("twice", "42", "encode", "Encode", created_at=1.0)
    first, second, ended = (RunningTask(tracked, publisher, config) for _ in range(3))
    for task in (first, second, ended):
        tasks.add(task)
    tasks.remove(ended)

    tasks.show_unstoppable("twice")
    tasks.cancel("twice")

    assert [task.is_cancelled for task in (first, second, ended)] == [True, True, False]
    assert [bool(task.notice) for task in (first, second, ended)] == [True, True, False]
    store.close()
