"""The life of a task as :mod:`jobpush.lifecycle` draws it, told to the real scripts."""

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
from jobpush.cli.embedded import EmbeddedRedis
from jobpush.config import Config
from jobpush.errors import TaskNotFound
from jobpush.events import TaskEvent
from jobpush.lifecycle import TaskState
from jobpush.store import Store, TaskWrite
from jobpush.store.messages import read_task
from jobpush.store.records import Outcome
from jobpush.store.task_calls import regain_call
from tests.effort import examples

from .lifecycle_model import OVER, RUNNING, Model, Word

FIRST, SECOND = "delivery-1", "delivery-2"


class Task:
    """One task in the store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.task_id = self.user = uuid.uuid4().hex

    def tell(self, state: str, delivery: str = "", number: int = 1, *, run: float = 1.0, handed: bool = False) -> bool:
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
        """As the parent of its process says it."""
        self.store.end(self.task_id, TaskState.RETRY, error="killed", delivery=delivery, run_at=run_at)

    def regain(self, delivery: str) -> bool:
        call = regain_call(self.store.config, user_topic(self.user), self.task_id, delivery)
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
        """Seconds that its snapshot lives."""
        key = self.store.keys.task(user_topic(self.user), self.task_id)
        (ttl,) = self.store.run([("TTL", key)])
        return int(ttl)

    @property
    def told(self) -> list[TaskEvent]:
        """All that was published."""
        stream = self.store.keys.stream(user_topic(self.user))
        (entries,) = self.store.run([("XRANGE", stream, "-", "+")])
        return [read_task(b"\n" + fields[b"m"]) for _, fields in entries]

    @property
    def sequence(self) -> list[tuple[str, int]]:
        """States and attempts, as they were published."""
        return [(event.state.value, event.attempt) for event in self.told]


@pytest.fixture
def task(store: Store) -> Task:
    return Task(store)


def test_a_task_that_is_delivered_again_goes_on_as_the_next_attempt(task: Task) -> None:
    for state in ("PENDING", "RECEIVED", "STARTED", "PROGRESS"):
        task.tell(state, "" if state == "PENDING" else FIRST)

    assert task.end("LOST", FIRST)
    assert task.tell("RECEIVED", SECOND)
    assert task.tell("STARTED", SECOND)

    assert task.now == ("STARTED", 2)


def test_a_run_that_has_asked_for_another_says_nothing_more(task: Task) -> None:
    for state in ("STARTED", "PROGRESS", "RETRY"):
        task.tell(state, FIRST)

    assert task.tell("RECEIVED", SECOND)
    assert not task.tell("PROGRESS", FIRST)
    for state in ("STARTED", "SUCCESS"):
        assert task.tell(state, SECOND)
    assert not task.tell("PROGRESS", FIRST)

    assert task.now == ("SUCCESS", 2)


def test_of_two_runs_at_once_the_newest_is_shown(task: Task) -> None:
    task.tell("PROGRESS", FIRST)

    assert not task.tell("RECEIVED", SECOND)
    assert task.tell("PROGRESS", FIRST)
    assert task.tell("STARTED", SECOND)
    assert not task.tell("PROGRESS", FIRST)
    assert not task.tell("SUCCESS", FIRST)
    assert task.tell("SUCCESS", SECOND)

    running = [("PROGRESS", 1), ("PROGRESS", 1)]
    assert task.sequence == [*running, ("RETRY", 1), ("STARTED", 2), ("SUCCESS", 2)]


def test_a_task_that_is_over_stays_so_until_it_runs_again(task: Task) -> None:
    task.tell("SUCCESS", FIRST)

    assert not task.tell("RECEIVED", SECOND)
    assert not task.end("REVOKED", SECOND)
    assert task.now == ("SUCCESS", 1)
    assert task.tell("STARTED", SECOND)
    assert task.now == ("STARTED", 2)


def test_attempts_go_on_counting_after_a_redelivery(task: Task) -> None:
    task.tell("STARTED", FIRST)
    task.tell("STARTED", SECOND)
    task.tell("RETRY", SECOND)

    task.tell("STARTED", "delivery-3", 2)

    assert task.now == ("STARTED", 3)


def test_what_takes_the_place_of_a_task_goes_on_in_its_attempt(task: Task) -> None:
    task.tell("STARTED", FIRST)
    task.tell("STARTED", FIRST, handed=True)

    assert not task.end("LOST", FIRST)
    assert task.tell("STARTED", SECOND)
    assert task.now == ("STARTED", 1)
    assert task.tell("STARTED", "delivery-3")
    assert task.now == ("STARTED", 2)


def test_what_takes_the_place_of_a_task_that_told_progress_is_another_attempt(task: Task) -> None:
    task.tell("PROGRESS", FIRST, handed=True)

    task.tell("STARTED", SECOND)

    assert task.sequence == [("PROGRESS", 1), ("RETRY", 1), ("STARTED", 2)]


def test_a_retry_that_is_told_late_of_an_earlier_delivery_is_refused(task: Task) -> None:
    task.tell("STARTED", FIRST)
    task.tell("RECEIVED", SECOND, 2)

    assert not task.end("RETRY", FIRST)
    assert task.tell("STARTED", SECOND, 2)


def test_what_a_task_said_before_it_handed_over_may_come_after_that(task: Task) -> None:
    task.tell("PROGRESS", FIRST, handed=True)
    task.tell("PROGRESS", FIRST)

    task.tell("STARTED", SECOND)

    assert task.sequence == [("PROGRESS", 1), ("PROGRESS", 1), ("RETRY", 1), ("STARTED", 2)]


def test_a_task_that_was_cancelled_before_what_takes_its_place_began_is_over(task: Task) -> None:
    task.tell("PROGRESS", FIRST, handed=True)

    task.cancel()

    assert task.now == ("REVOKED", 1)
    assert not task.tell("STARTED", SECOND)


def test_what_takes_the_place_of_a_task_may_be_revoked_before_it_begins(task: Task) -> None:
    task.tell("STARTED", FIRST, handed=True)

    assert task.end("REVOKED", SECOND)  # else it was shown as running for ever

    assert task.now == ("REVOKED", 1)


def test_a_lost_task_that_was_alive_goes_on_where_it_was(task: Task) -> None:
    task.tell("PROGRESS", FIRST)
    task.end("LOST", FIRST, "gone")

    assert task.event.error == "gone"
    assert task.regain(FIRST)
    assert not task.regain(FIRST)

    assert task.now == ("PROGRESS", 1)
    assert task.event.error is None


def test_a_task_that_was_cancelled_is_not_lost_but_revoked(task: Task) -> None:
    task.tell("PROGRESS", FIRST)
    task.cancel()

    task.end("LOST", FIRST)

    assert task.now == ("REVOKED", 1)
    assert not task.tell("STARTED", SECOND)


def test_a_task_that_was_cancelled_does_not_wait_for_another_attempt(task: Task) -> None:
    task.tell("PROGRESS", FIRST)
    task.cancel()

    task.tell("RETRY", FIRST)

    assert task.now == ("REVOKED", 1)
    assert (task.event.error, task.event.run_at) == (None, None)


def test_a_task_that_was_cancelled_is_not_tried_again_by_others(task: Task) -> None:
    task.tell("PROGRESS", FIRST)
    task.cancel()

    task.end("RETRY", FIRST, "killed")

    assert task.now == ("REVOKED", 1)


def test_a_task_that_others_would_try_again_and_that_was_cancelled_does_not_wait_for_that(task: Task) -> None:
    task.tell("PROGRESS", FIRST)
    task.cancel()

    task.retry_later(FIRST, time.time() + 600)

    last = task.event
    assert (last.state, last.error, last.run_at) == (TaskState.REVOKED, None, None)


@pytest.mark.parametrize("how", ["told RETRY", "ended RETRY", "ended LOST"])
def test_a_task_that_is_revoked_in_place_of_what_was_said_is_kept_as_long_as_any_that_is_over(
    task: Task, how: str
) -> None:
    task.tell("PROGRESS", FIRST)
    task.cancel()

    if how == "told RETRY":
        task.tell("RETRY", FIRST)
    elif how == "ended RETRY":
        task.retry_later(FIRST, time.time() + 600)
    else:
        task.end("LOST", FIRST)

    assert task.now == ("REVOKED", 1)
    assert 0 < task.ttl <= task.store.config.final_ttl


def test_a_task_that_waits_for_another_attempt_is_kept_until_then_and_longer(task: Task) -> None:
    task.tell("PROGRESS", FIRST)

    task.retry_later(FIRST, time.time() + 1_000)

    assert task.ttl > task.store.config.task_ttl + 900


def test_a_waiting_retry_is_not_lost_with_the_worker_that_asked_for_it(task: Task) -> None:
    task.tell("RETRY", FIRST)

    assert not task.end("LOST", FIRST)


def test_the_end_told_by_another_keeps_what_the_task_had_told(task: Task) -> None:
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
    """Words in any order, from any number of runs: the scripts hear what the model hears, and nothing else."""

    store: Store

    @initialize()
    def begin(self) -> None:
        self.task = Task(self.store)
        self.model = Model()

    @rule(number=NUMBERS, run=RUNS)
    def publish(self, number: int, run: float) -> None:
        word = Word(TaskState.PENDING, run, number)
        assert self.task.tell("PENDING", number=number, run=run) == self.model.tell(word)

    @rule(state=STATES, delivery=DELIVERIES, number=NUMBERS, run=RUNS, handed=st.booleans())
    def tell(self, state: str, delivery: str, number: int, run: float, handed: bool) -> None:
        word = Word(TaskState(state), run, number, delivery, handed)
        assert self.task.tell(state, delivery, number, run=run, handed=handed) == self.model.tell(word)

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
        told = self.task.told
        for before, after in zip(told, told[1:], strict=False):
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


def test_any_order_of_words_is_heard_as_it_is_drawn(shared_store: Store) -> None:
    class Machine(AnyOrder):
        store = shared_store

    case = Machine.TestCase
    case.settings = settings(max_examples=examples(200), stateful_step_count=30, deadline=None)
    case().runTest()
