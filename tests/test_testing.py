"""The pytest plugin, in tests as users write them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from celery import Celery

from jobpush import JobPush, progress
from jobpush.events import TaskState
from jobpush.testing import PATIENCE, FakeClock, RecordedEvents


@pytest.fixture
def app(redis_url: str) -> Any:
    """An application that is configured for another Redis than its tests use."""
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.update(task_always_eager=True, task_store_eager_result=False)
    jobpush = JobPush(app, redis_url=redis_url, min_interval=0.0, publish_timeout=PATIENCE, flush_timeout=PATIENCE)

    @app.task(name="encode", shared=False, bind=True, max_retries=2)
    @jobpush.track(user="user_id", title="Encode {filename}")
    def encode(self: Any, user_id: str, filename: str, failures: int = 0) -> None:
        progress.update(1, total=2)
        if self.request.retries < failures:
            raise self.retry(exc=OSError("disk is busy"))

    yield app
    app.close()


def delay(app: Celery, *args: Any) -> str:
    return str(app.tasks["encode"].delay(*args).id)


def test_eager_task_goes_through_the_states_of_a_real_one(app: Celery, recorded_events: RecordedEvents) -> None:
    delay(app, "42", "cat.mov")

    recorded_events.assert_states("PENDING", "STARTED", "PROGRESS", "SUCCESS")
    assert [event.state.value for event in recorded_events.events][:3] == ["PENDING", "RECEIVED", "STARTED"]
    assert [event.seq for event in recorded_events.events] == list(range(1, len(recorded_events.events) + 1))
    assert (recorded_events.last.title, recorded_events.last.percent) == ("Encode cat.mov", 100)


def test_eager_retry_shows_each_attempt(app: Celery, recorded_events: RecordedEvents) -> None:
    delay(app, "42", "cat.mov", 1)

    recorded_events.assert_states("PENDING", "STARTED", "PROGRESS", "RETRY", "STARTED", "PROGRESS", "SUCCESS")
    (retry,) = [event for event in recorded_events.events if event.state is TaskState.RETRY]
    assert (retry.error, retry.attempt, retry.max_attempts) == ("disk is busy", 1, 3)
    assert recorded_events.last.attempt == 2


def test_eager_task_with_exhausted_retries_fails(app: Celery, recorded_events: RecordedEvents) -> None:
    delay(app, "42", "cat.mov", 9)

    one_attempt = ["STARTED", "PROGRESS"]
    recorded_events.assert_states(
        *("PENDING", *one_attempt, "RETRY"), *(*one_attempt, "RETRY"), *(*one_attempt, "FAILURE")
    )


def test_each_test_sees_its_own_events_only(app: Celery, recorded_events: RecordedEvents) -> None:
    assert recorded_events.events == []

    delay(app, "42", "cat.mov")

    assert {event.task_id for event in recorded_events.events} == {recorded_events.last.task_id}


def test_wrong_expectation_is_described(app: Celery, recorded_events: RecordedEvents) -> None:
    delay(app, "42", "cat.mov")

    with pytest.raises(AssertionError, match="expected PENDING > FAILURE, but there was PENDING > STARTED > PROGRESS"):
        recorded_events.assert_states("PENDING", "FAILURE")


def test_missing_events_are_described(recorded_events: RecordedEvents) -> None:
    with pytest.raises(AssertionError, match="is it tracked"):
        assert recorded_events.last
    with pytest.raises(AssertionError, match="there was nothing"):
        recorded_events.assert_states("PENDING")


def test_one_of_several_tasks_must_be_named(app: Celery, recorded_events: RecordedEvents) -> None:
    first, _ = delay(app, "42", "cat.mov"), delay(app, "43", "dog.mov")

    with pytest.raises(AssertionError, match="there are 2 tasks"):
        recorded_events.states()
    recorded_events.assert_states("PENDING", "STARTED", "PROGRESS", "SUCCESS", task_id=first)


def test_clock_stands_still_until_it_is_moved(
    app: Celery, recorded_events: RecordedEvents, jobpush_clock: FakeClock
) -> None:
    jobpush = JobPush(app)

    @app.task(name="slow", shared=False)
    @jobpush.track(user=lambda: "42")
    def slow() -> None:
        jobpush_clock.advance(90)
        progress.log("a line")

    slow.delay()

    last = recorded_events.last
    assert any(b'\\"at\\":1700000090.0' in line for line in recorded_events.messages if b"a line" in line)
    assert last.started_at is not None
    assert (last.created_at, last.started_at - last.created_at, last.at - last.started_at) == (1_700_000_000, 0, 90)


def test_unused_plugin_costs_nothing() -> None:
    code = "import sys, jobpush.testing; print([name for name in ('celery', 'flask', 'redis') if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
