"""How running tasks hear of a cancel, and how a worker's parent ends those that don't heed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery.concurrency.base import BasePool
from celery.worker import state as worker_state

from jobpush.config import Config
from jobpush.queues.celery import revoker as follower_module
from jobpush.queues.celery.revoker import _LEAST_GRACE, Revoker
from jobpush.reporting.identity import TaskIdentity
from jobpush.reporting.running_task import RunningTask
from jobpush.reporting.running_tasks import RunningTasks
from jobpush.store import Store


class FakeControl:
    """Notes what workers are told."""

    def __init__(self) -> None:
        self.terminated: list[str] = []
        self.is_away = False

    def revoke(self, task_id: str, *, terminate: bool = False, destination: list[str]) -> None:
        assert destination == ["worker@host"]
        if self.is_away:
            raise OSError("no broker")
        if terminate:
            self.terminated.append(task_id)


class FakeTime:
    """A clock that the test moves."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


class Pool(BasePool):
    """One that can terminate, as prefork can."""

    def __init__(self) -> None:
        pass

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        """Never called here."""


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    time = FakeTime()
    monkeypatch.setattr(follower_module, "time", time)
    return time


@pytest.fixture
def unstoppable() -> list[str]:
    return []


def make_follower(
    control: FakeControl, unstoppable: list[str], monkeypatch: pytest.MonkeyPatch, *, has_remote_control: bool = True
) -> Revoker:
    """One without its thread."""
    conf = SimpleNamespace(worker_enable_remote_control=has_remote_control)
    consumer = SimpleNamespace(app=SimpleNamespace(control=control, conf=conf), hostname="worker@host", pool=Pool())
    runtime: Any = SimpleNamespace(
        config=Config(cancel_grace=1.0), running=SimpleNamespace(say_unstoppable=unstoppable.append)
    )
    monkeypatch.setattr(Revoker, "_run", lambda self: None)
    return Revoker(consumer, runtime)


def running(monkeypatch: pytest.MonkeyPatch, *requests: tuple[str, str | None]) -> None:
    """Let these tasks run, each with the workflow that it is a member of."""
    active = [SimpleNamespace(id=task_id, request_dict={"jobpush_root": root}) for task_id, root in requests]
    monkeypatch.setattr(worker_state, "active_requests", active)


def test_a_task_is_terminated_until_it_has_ended(
    control: FakeControl, time: FakeTime, unstoppable: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = make_follower(control, unstoppable, monkeypatch)
    running(monkeypatch, ("cancelled", None), ("member", "album"), ("other", None))
    follower._deadlines = {"cancelled": time.now, "album": time.now}

    follower._end_overdue()
    follower._end_overdue()
    assert sorted(control.terminated) == ["cancelled", "member"]

    time.now += _LEAST_GRACE
    running(monkeypatch, ("member", "album"))
    follower._end_overdue()
    assert sorted(control.terminated) == ["cancelled", "member", "member"]

    time.now += _LEAST_GRACE
    running(monkeypatch)
    follower._end_overdue()
    assert len(control.terminated) == 3
    assert not follower._deadlines


def test_a_broker_that_is_away_keeps_no_task_from_its_end(
    control: FakeControl, time: FakeTime, unstoppable: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = make_follower(control, unstoppable, monkeypatch)
    running(monkeypatch, ("one", None), ("two", None))
    follower._deadlines = {"one": time.now, "two": time.now}
    monkeypatch.setattr(control, "is_away", True)
    with pytest.raises(OSError, match="no broker"):
        follower._end_overdue()

    monkeypatch.setattr(control, "is_away", False)
    time.now += _LEAST_GRACE
    follower._end_overdue()

    assert sorted(control.terminated) == ["one", "two"]


def test_where_the_worker_hears_no_commands_the_user_is_told_so(
    control: FakeControl, time: FakeTime, unstoppable: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = make_follower(control, unstoppable, monkeypatch, has_remote_control=False)
    running(monkeypatch, ("cancelled", None))
    follower._deadlines = {"cancelled": time.now}

    follower._end_overdue()
    time.now += _LEAST_GRACE
    follower._end_overdue()

    assert unstoppable == ["cancelled"]
    assert not control.terminated


def test_of_two_deliveries_that_run_in_one_process_both_hear_of_a_cancel(redis_url: str) -> None:
    config = Config(redis_url=redis_url)
    store = Store(config)
    tasks = RunningTasks(store, config)
    publisher: Any = SimpleNamespace(changed=lambda task: None)
    tracked = TaskIdentity("twice", "42", "encode", "Encode", created_at=1.0)
    first, second, ended = (RunningTask(tracked, publisher, config) for _ in range(3))
    for task in (first, second, ended):
        tasks.add(task)
    tasks.remove(ended)

    tasks.say_unstoppable("twice")
    tasks.cancel("twice")

    assert [task.is_cancelled for task in (first, second, ended)] == [True, True, False]
    assert [bool(task.notice) for task in (first, second, ended)] == [True, True, False]
    store.close()
