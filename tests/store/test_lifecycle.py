"""The task life cycle of :mod:`jobpush.lifecycle`, checked with the real scripts."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from jobpush.channels import user_topic
from jobpush.config import Config
from jobpush.errors import TaskNotFound
from jobpush.events import TaskEvent
from jobpush.lifecycle import TaskState
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.store import Store, TaskWrite
from jobpush.store.messages import read_task
from jobpush.store.records import Outcome
from jobpush.store.task_calls import TaskCalls
from tests.effort import examples

from .lifecycle_model import OVER, RUNNING, Model, Update

FIRST, SECOND = "delivery-1", "delivery-2"


class Task:
    """One task in the store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.task_id = self.user = uuid.uuid4().hex

    def publish(
        self, state: str, delivery: str = "", number: int = 1, *, run: float = 1.0, handed: bool = False
    ) -> bool:
        event = TaskEvent(self.task_id, TaskState(state), attempt=number, created_at=run)
        write = TaskWrite(self.user, event, delivery=delivery, is_handed_over=handed)
        return self.store.publish([write])[0].outcome is Outcome.STORED

    def end(self, state: str, delivery: str = "", error: str | None = None) -> bool:
        try:
            published = self.store.end(self.task_id, TaskState(state), error=error, delivery=delivery)
        except TaskNotFound:
            return False
        return published.outcome is Outcome.STORED

    def retry_later(self, delivery: str, run_at: float) -> None:
        """Report a retry as the worker's parent process does."""
        self.store.end(self.task_id, TaskState.RETRY, error="killed", delivery=delivery, run_at=run_at)

    def regain(self, delivery: str) -> bool:
        call = TaskCalls(self.store.config).regain(user_topic(self.user), self.task_id, delivery)
        return self.store.run([call]) == [1]

    def cancel(self) -> None:
        with suppress(TaskNotFound):
            self.store.cancel(self.task_id)

    @property
    def event(self) -> TaskEvent:
        return self.store.task(self.task_id)

    @property
    def now(self) -> tuple[str, int]:
        """State and attempt."""
        return self.event.state.value, self.event.attempt

    @property
    def ttl(self) -> int:
        """Seconds until its snapshot expires."""
        key = self.store.keys.task(user_topic(self.user), self.task_id)
        (ttl,) = self.store.run([("TTL", key)])
        return int(ttl)

    @property
    def published(self) -> list[TaskEvent]:
        """All published events."""
        stream = self.store.keys.stream(user_topic(self.user))
        (entries,) = self.store.run([("XRANGE", stream, "-", "+")])
        return [read_task(b"\n" + fields[b"m"]) for _, fields in entries]

    @property
    def sequence(self) -> list[tuple[str, int]]:
        """Published states and attempts, in order."""
        return [(event.state.value, event.attempt) for event in self.published]


@pytest.fixture
def task(store: Store) -> Task:
    return Task(store)


def test_redelivery_after_lost_starts_the_next_attempt(task: Task) -> None:
    for state in ("PENDING", "RECEIVED", "STARTED", "PROGRESS"):
        task.publish(state, "" if state == "PENDING" else FIRST)

    assert task.end("LOST", FIRST)
    assert task.publish("RECEIVED", SECOND)
    assert task.publish("STARTED", SECOND)

    assert task.now == ("STARTED", 2)


def test_delivery_that_published_retry_is_ignored_once_the_next_one_runs(task: Task) -> None:
    for state in ("STARTED", "PROGRESS", "RETRY"):
        task.publish(state, FIRST)

    assert task.publish("RECEIVED", SECOND)
    assert not task.publish("PROGRESS", FIRST)
    for state in ("STARTED", "SUCCESS"):
        assert task.publish(state, SECOND)
    assert not task.publish("PROGRESS", FIRST)

    assert task.now == ("SUCCESS", 2)


def test_newest_of_two_concurrent_deliveries_is_shown(task: Task) -> None:
    task.publish("PROGRESS", FIRST)

    assert not task.publish("RECEIVED", SECOND)
    assert task.publish("PROGRESS", FIRST)
    assert task.publish("STARTED", SECOND)
    assert not task.publish("PROGRESS", FIRST)
    assert not task.publish("FAILURE", FIRST)
    assert task.publish("SUCCESS", SECOND)
    assert not task.publish("SUCCESS", FIRST)

    running = [("PROGRESS", 1), ("PROGRESS", 1)]
    assert task.sequence == [*running, ("RETRY", 1), ("STARTED", 2), ("SUCCESS", 2)]


def test_first_success_of_two_concurrent_deliveries_is_the_end(task: Task) -> None:
    task.publish("PROGRESS", FIRST)
    task.publish("STARTED", SECOND)

    assert task.publish("SUCCESS", FIRST)
    assert not task.publish("PROGRESS", SECOND)
    assert not task.end("LOST", SECOND)
    assert not task.publish("FAILURE", SECOND)

    assert task.sequence == [("PROGRESS", 1), ("RETRY", 1), ("STARTED", 2), ("SUCCESS", 2)]


def test_task_that_succeeded_does_not_stay_lost(task: Task) -> None:
    task.publish("PROGRESS", FIRST)
    task.publish("STARTED", SECOND)
    task.end("LOST", SECOND)

    assert task.publish("SUCCESS", FIRST)

    assert task.now == ("SUCCESS", 2)


def test_task_that_an_earlier_delivery_still_runs_is_not_lost(task: Task) -> None:
    task.publish("PROGRESS", FIRST)
    task.publish("PROGRESS", SECOND)

    task.end("LOST", SECOND, "The worker of the task died")
    assert task.now == ("RETRY", 2)
    assert task.event.error == "The worker of the task died"
    task.publish("PROGRESS", FIRST)
    assert task.now == ("PROGRESS", 3)
    task.publish("SUCCESS", FIRST)
    assert task.now == ("SUCCESS", 3)


def test_task_that_another_worker_received_too_is_not_lost(task: Task) -> None:
    task.publish("RECEIVED", FIRST)
    task.publish("RECEIVED", SECOND)

    task.end("LOST", SECOND)
    assert task.now == ("RETRY", 1)
    task.publish("STARTED", FIRST)
    assert task.now == ("STARTED", 2)


@pytest.mark.parametrize("order", [(FIRST, SECOND), (SECOND, FIRST)])
def test_task_is_lost_once_all_its_workers_died(task: Task, order: tuple[str, str]) -> None:
    task.publish("PROGRESS", FIRST)
    task.publish("PROGRESS", SECOND)

    for delivery in order:
        task.end("LOST", delivery)

    assert task.now == ("LOST", 2)


@pytest.mark.parametrize("end", ["FAILURE", "RETRY", "LOST"])
def test_task_is_lost_if_its_earlier_delivery_has_ended(task: Task, end: str) -> None:
    task.publish("PROGRESS", FIRST)
    task.publish("PROGRESS", SECOND)
    refused = task.end(end, FIRST) if end == "LOST" else task.publish(end, FIRST)

    task.end("LOST", SECOND)

    assert not refused
    assert task.now == ("LOST", 2)


@pytest.mark.parametrize("end", ["FAILURE", "REVOKED"])
def test_earlier_delivery_continues_if_the_newest_fails(task: Task, end: str) -> None:
    task.publish("PROGRESS", FIRST)
    task.publish("STARTED", SECOND)
    task.publish(end, SECOND)

    task.publish("FAILURE", FIRST)
    assert task.now == (end, 2)
    task.publish("PROGRESS", FIRST)
    assert task.now == ("PROGRESS", 3)
    task.publish("SUCCESS", FIRST)
    assert task.now == ("SUCCESS", 3)


@pytest.mark.parametrize("end", ["FAILURE", "REVOKED"])
def test_ended_task_keeps_its_state_until_it_runs_again(task: Task, end: str) -> None:
    task.publish(end, FIRST)

    assert not task.publish("RECEIVED", SECOND)
    assert not task.end("REVOKED", SECOND)
    assert task.now == (end, 1)
    assert task.publish("STARTED", SECOND)
    assert task.now == ("STARTED", 2)


def test_task_that_succeeded_stays_so_while_the_broker_repeats_it(task: Task) -> None:
    task.publish("SUCCESS", FIRST)

    for state in ("RECEIVED", "STARTED", "PROGRESS", "RETRY", "FAILURE", "SUCCESS"):
        assert not task.publish(state, SECOND)
    assert not task.end("LOST", SECOND)
    assert task.now == ("SUCCESS", 1)
    assert task.publish("STARTED", SECOND, number=2)
    assert task.now == ("STARTED", 2)


def test_attempt_numbers_continue_after_a_redelivery(task: Task) -> None:
    task.publish("STARTED", FIRST)
    task.publish("STARTED", SECOND)
    task.publish("RETRY", SECOND)

    task.publish("STARTED", "delivery-3", 2)

    assert task.now == ("STARTED", 3)


def test_replacement_task_continues_the_attempt(task: Task) -> None:
    task.publish("STARTED", FIRST)
    task.publish("STARTED", FIRST, handed=True)

    assert not task.end("LOST", FIRST)
    assert task.publish("STARTED", SECOND)
    assert task.now == ("STARTED", 1)
    assert task.publish("STARTED", "delivery-3")
    assert task.now == ("STARTED", 2)


def test_replacement_of_a_task_with_progress_is_the_next_attempt(task: Task) -> None:
    task.publish("PROGRESS", FIRST, handed=True)

    task.publish("STARTED", SECOND)

    assert task.sequence == [("PROGRESS", 1), ("RETRY", 1), ("STARTED", 2)]


def test_late_retry_of_an_earlier_delivery_is_refused(task: Task) -> None:
    task.publish("STARTED", FIRST)
    task.publish("RECEIVED", SECOND, 2)

    assert not task.end("RETRY", FIRST)
    assert task.publish("STARTED", SECOND, 2)


def test_progress_published_after_the_hand_over_is_accepted(task: Task) -> None:
    task.publish("PROGRESS", FIRST, handed=True)
    task.publish("PROGRESS", FIRST)

    task.publish("STARTED", SECOND)

    assert task.sequence == [("PROGRESS", 1), ("PROGRESS", 1), ("RETRY", 1), ("STARTED", 2)]


def test_task_cancelled_before_its_replacement_starts_is_revoked(task: Task) -> None:
    task.publish("PROGRESS", FIRST, handed=True)

    task.cancel()

    assert task.now == ("REVOKED", 1)
    assert not task.publish("STARTED", SECOND)


def test_replacement_can_be_revoked_before_it_starts(task: Task) -> None:
    task.publish("STARTED", FIRST, handed=True)

    assert task.end("REVOKED", SECOND)  # otherwise it would be shown as running for ever

    assert task.now == ("REVOKED", 1)


def test_regained_task_continues_in_its_previous_state(task: Task) -> None:
    task.publish("PROGRESS", FIRST)
    task.end("LOST", FIRST, "gone")

    assert task.event.error == "gone"
    assert task.regain(FIRST)
    assert not task.regain(FIRST)

    assert task.now == ("PROGRESS", 1)
    assert task.event.error is None


def test_lost_becomes_revoked_for_a_cancelled_task(task: Task) -> None:
    task.publish("PROGRESS", FIRST)
    task.cancel()

    task.end("LOST", FIRST)

    assert task.now == ("REVOKED", 1)
    assert not task.publish("STARTED", SECOND)


def test_retry_becomes_revoked_for_a_cancelled_task(task: Task) -> None:
    task.publish("PROGRESS", FIRST)
    task.cancel()

    task.publish("RETRY", FIRST)

    assert task.now == ("REVOKED", 1)
    assert (task.event.error, task.event.run_at) == (None, None)


def test_retry_reported_by_the_worker_becomes_revoked_for_a_cancelled_task(task: Task) -> None:
    task.publish("PROGRESS", FIRST)
    task.cancel()

    task.end("RETRY", FIRST, "killed")

    assert task.now == ("REVOKED", 1)


def test_delayed_retry_reported_by_the_worker_becomes_revoked_for_a_cancelled_task(task: Task) -> None:
    task.publish("PROGRESS", FIRST)
    task.cancel()

    task.retry_later(FIRST, time.time() + 600)

    last = task.event
    assert (last.state, last.error, last.run_at) == (TaskState.REVOKED, None, None)


@pytest.mark.parametrize("how", ["published RETRY", "ended RETRY", "ended LOST"])
def test_snapshot_of_a_task_revoked_instead_expires_like_any_final_one(task: Task, how: str) -> None:
    task.publish("PROGRESS", FIRST)
    task.cancel()

    if how == "published RETRY":
        task.publish("RETRY", FIRST)
    elif how == "ended RETRY":
        task.retry_later(FIRST, time.time() + 600)
    else:
        task.end("LOST", FIRST)

    assert task.now == ("REVOKED", 1)
    assert 0 < task.ttl <= task.store.config.final_ttl


def test_snapshot_of_a_delayed_retry_outlives_the_delay(task: Task) -> None:
    task.publish("PROGRESS", FIRST)

    task.retry_later(FIRST, time.time() + 1_000)

    assert task.ttl > task.store.config.task_ttl + 900


def test_waiting_retry_is_not_lost_with_its_worker(task: Task) -> None:
    task.publish("RETRY", FIRST)

    assert not task.end("LOST", FIRST)


def test_end_reported_by_another_process_keeps_the_progress(task: Task) -> None:
    event = TaskEvent(task.task_id, TaskState.PROGRESS, current=1, total=2, rate=3.0, eta=4.0, created_at=1.0)
    task.store.publish([TaskWrite(task.user, event, delivery=FIRST)])

    task.end("FAILURE", FIRST, "killed")

    last = task.event
    assert (last.current, last.total, last.rate, last.eta, last.error) == (1, 2, None, None, "killed")


STATES = st.sampled_from([state.value for state in TaskState if state not in (TaskState.PENDING, TaskState.LOST)])
ENDS = st.sampled_from(["LOST", "FAILURE", "REVOKED"])
DELIVERIES = st.sampled_from(["delivery-1", "delivery-2", "delivery-3"])
NUMBERS = st.integers(1, 3)
RUNS = st.sampled_from([1.0, 1.0, 1.0, 2.0])


class AnyOrder(RuleBasedStateMachine):
    """Updates in any order from any number of runs: the scripts accept exactly those that the model accepts."""

    store: Store

    @initialize()
    def begin(self) -> None:
        self.task = Task(self.store)
        self.model = Model()

    @rule(number=NUMBERS, run=RUNS)
    def publish_pending(self, number: int, run: float) -> None:
        update = Update(TaskState.PENDING, run, number)
        assert self.task.publish("PENDING", number=number, run=run) == self.model.publish(update)

    @rule(state=STATES, delivery=DELIVERIES, number=NUMBERS, run=RUNS, handed=st.booleans())
    def publish(self, state: str, delivery: str, number: int, run: float, handed: bool) -> None:
        update = Update(TaskState(state), run, number, delivery, handed)
        assert self.task.publish(state, delivery, number, run=run, handed=handed) == self.model.publish(update)

    @rule(state=ENDS, delivery=DELIVERIES)
    def end(self, state: str, delivery: str) -> None:
        assert self.task.end(state, delivery) == self.model.end(TaskState(state), delivery)

    @rule(state=st.sampled_from(["FAILURE", "REVOKED"]))
    def end_what_waits(self, state: str) -> None:
        assert self.task.end(state) == self.model.end(TaskState(state), "")

    @rule(delivery=DELIVERIES)
    def regain(self, delivery: str) -> None:
        assert self.task.regain(delivery) == self.model.regain(delivery)

    @rule()
    def cancel(self) -> None:
        self.task.cancel()
        self.model.cancel()

    @invariant()
    def both_are_in_the_same_state(self) -> None:
        if self.model.state is not None:
            assert self.task.now == (self.model.state.value, self.model.attempt)

    @invariant()
    def each_attempt_ends_once_and_goes_forward(self) -> None:
        published = self.task.published
        for before, after in zip(published, published[1:], strict=False):
            assert after.seq > before.seq
            if after.created_at == before.created_at and after.attempt == before.attempt:
                assert before.state not in OVER
                assert after.state.rank >= before.state.rank or before.state is TaskState.LOST
            elif after.created_at == before.created_at:
                assert after.attempt > before.attempt
                assert before.state not in RUNNING


@pytest.fixture(scope="module")
def shared_store() -> Iterator[Store]:
    with EmbeddedRedis() as server:
        store = Store(Config(redis_url=server.url, publish_timeout=5.0))
        yield store
        store.close()


def test_scripts_agree_with_the_model_in_any_order(shared_store: Store) -> None:
    class Machine(AnyOrder):
        store = shared_store

    case = Machine.TestCase
    case.settings = settings(max_examples=examples(200), stateful_step_count=30, deadline=None)
    case().runTest()
