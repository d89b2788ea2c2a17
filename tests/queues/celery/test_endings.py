"""Tasks from ``delay()`` to each common final state, with a real worker."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from billiard.exceptions import WorkerLostError
from celery import Celery, states

from jobpush.events import TaskEvent, TaskState
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.queues.celery.signals import on_failure
from jobpush.queues.celery.worker_leases import leases_of
from jobpush.reporting.records import Ending
from tests.celery_site.site import PATIENT, Listener, Site
from tests.celery_site.watched_tasks import make_app


@pytest.fixture
def listener(site: Site, user: str) -> Listener:
    return site.listen(user)


@pytest.fixture
def stubborn(site: Site, listener: Listener, user: str) -> Iterator[TaskEvent]:
    """
    Yield the first progress event of a task that ignores cancels.

    The task is cancelled after the test, because it occupies one of two child processes.
    """
    task_id = site.delay("stubborn", user)
    try:
        yield listener.until_state(TaskState.PROGRESS, task_id)
    finally:
        site.jobpush.cancel(task_id)


def assert_seq_rises_by_one(events: list[TaskEvent]) -> None:
    assert [event.seq for event in events] == list(range(1, len(events) + 1))


def test_success_follows_all_earlier_states(site: Site, listener: Listener, user: str) -> None:
    task_id = site.delay("encode", user, "cat.mov", 3)

    last = listener.until_final(task_id)

    listener.assert_states("PENDING", "STARTED", "PROGRESS", "SUCCESS", task_id=task_id)
    assert_seq_rises_by_one(listener.of(task_id))
    assert (last.title, last.name, last.attempt) == ("Encode cat.mov", "encode", 1)
    assert (last.current, last.total, last.percent, last.message) == (3, 3, 100.0, "encoding")
    assert len({event.created_at for event in listener.of(task_id)}) == 1
    assert last.started_at is not None and last.created_at <= last.started_at <= last.at


def test_pending_is_published_before_delay_returns(site: Site, user: str) -> None:
    task_id = site.delay("encode", user, "cat.mov", countdown=600)

    (event,) = site.jobpush.tasks(user)

    assert event.task_id == task_id
    assert event.state in (TaskState.PENDING, TaskState.RECEIVED)


def test_tracked_above_the_task_decorator(site: Site, listener: Listener, user: str) -> None:
    task_id = site.delay("above", user)

    last = listener.until_final(task_id)

    listener.assert_states("PENDING", "STARTED", "PROGRESS", "SUCCESS", task_id=task_id)
    assert (last.title, last.message) == ("Above cat.mov", "above")


def test_failure_has_the_first_line_of_the_error(site: Site, listener: Listener, user: str) -> None:
    task_id = site.delay("fails", user)

    last = listener.until_final(task_id)

    listener.assert_states("PENDING", "STARTED", "PROGRESS", "FAILURE", task_id=task_id)
    assert (last.error, last.percent) == ("no such file", 50.0)


def test_failure_has_the_message_of_its_exception_type(site: Site, listener: Listener, user: str) -> None:
    task_id = site.delay("fails", user, True)

    assert listener.until_final(task_id).error == "We could not do that"


def test_each_retry_is_published_before_the_next_attempt(site: Site, listener: Listener, user: str) -> None:
    task_id = site.delay("retries", user, 2)

    listener.until_final(task_id)

    one_attempt = ["STARTED", "PROGRESS"]
    assert listener.states(task_id) == [
        *("PENDING", *one_attempt, "RETRY"),
        *(*one_attempt, "RETRY"),
        *(*one_attempt, "SUCCESS"),
    ]
    attempts = [event.attempt for event in listener.of(task_id)]
    assert attempts == sorted(attempts)
    assert attempts[-1] == 3


def test_exhausted_retries_end_in_failure(site: Site, listener: Listener, user: str) -> None:
    task_id = site.delay("autoretries", user)

    last = listener.until_final(task_id)

    listener.assert_states("PENDING", "STARTED", "RETRY", "STARTED", "FAILURE", task_id=task_id)
    assert (last.error, last.attempt) == ("disk is full", 2)
    retry = next(event for event in listener.of(task_id) if event.state is TaskState.RETRY)
    assert (retry.error, retry.attempt, retry.max_attempts) == ("disk is full", 1, 2)


def test_ignored_task_ends_without_success(site: Site, listener: Listener, user: str) -> None:
    task_id = site.delay("ignores", user)

    last = listener.until_final(task_id)

    listener.assert_states("PENDING", "STARTED", "PROGRESS", "REVOKED", task_id=task_id)
    assert (last.error, last.percent) == ("The task ended without a result", 50.0)


def test_rejected_task_is_a_failure(site: Site, listener: Listener, user: str) -> None:
    task_id = site.delay("rejects", user)

    last = listener.until_final(task_id)

    listener.assert_states("PENDING", "STARTED", "FAILURE", task_id=task_id)
    assert last.error == "no disk here"


def test_requeued_task_runs_again(site: Site, listener: Listener, user: str) -> None:
    task_id = site.delay("requeues", user)

    last = listener.until_final(task_id)

    listener.assert_states("PENDING", "STARTED", "RETRY", "STARTED", "SUCCESS", task_id=task_id)
    assert last.attempt == 2


@pytest.mark.parametrize(
    ("status", "error"), [(None, "The task ended its process: exit code 0"), ("no licence", "no licence")]
)
def test_task_that_exits_is_a_failure(
    site: Site, listener: Listener, user: str, status: str | None, error: str
) -> None:
    task_id = site.delay("exits", user, status)

    last = listener.until_final(task_id)

    listener.assert_states("PENDING", "STARTED", "FAILURE", task_id=task_id)
    assert last.error == error


def test_end_of_one_delivery_does_not_end_the_other(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a worker's parent after the broker redelivered a task that one of its processes still runs."""
    app, jobpush = make_app("memory://", redis_url)
    task, runtime = app.tasks["encode"], jobpush._runtime
    leases_of(runtime)._newest["twice"] = "second"
    endings: list[Ending] = []
    monkeypatch.setattr(runtime.publisher, "submit_ending", endings.append)

    for headers in ({"jobpush_delivery": "first"}, {}):
        task.push_request(id="twice", **headers)
        on_failure(sender=task, task_id="twice", exception=WorkerLostError())
        task.pop_request()

    assert [ending.delivery for ending in endings] == ["first", "second"]
    app.close()


@pytest.mark.parametrize(
    ("kind", "last", "name"),
    [
        ("task", "SUCCESS", "part"),
        ("failing", "FAILURE", "part"),
        ("retrying", "SUCCESS", "part"),
        ("chain", "SUCCESS", "replaced_by"),  # its tasks publish no events
        ("owned chain", "SUCCESS", "owned_by_header"),
        ("task of nobody", "SUCCESS", "replaced_by"),
        ("chain of nobody", "SUCCESS", "replaced_by"),
        ("chain of the user", "SUCCESS", "owned_by_argument"),
        ("chain with a body", "SUCCESS", "sends"),
    ],
)
def test_replaced_task_ends_with_any_replacement(
    site: Site, listener: Listener, user: str, kind: str, last: str, name: str
) -> None:
    task_id = site.delay("replaced_by", user, kind)

    event = listener.until_final(task_id)

    assert (event.state.value, event.name) == (last, name)
    assert len(set(listener.states(task_id)) & {"SUCCESS", "FAILURE", "REVOKED", "LOST"}) == 1
    assert event.attempt == (2 if kind == "retrying" else 1)


def test_replacement_task_keeps_the_attempt(site: Site, listener: Listener, user: str) -> None:
    task_id = site.delay("is_replaced", user)

    last = listener.until_final(task_id)

    listener.assert_states("PENDING", "STARTED", "PROGRESS", "SUCCESS", task_id=task_id)
    assert last.attempt == 1


def test_soft_time_limit_is_a_failure(site: Site, listener: Listener, user: str) -> None:
    task_id = site.delay("soft_limited", user)

    last = listener.until_final(task_id)

    listener.assert_states("PENDING", "STARTED", "FAILURE", task_id=task_id)
    assert last.error == "The task took too long and was stopped"


def test_hard_time_limit_is_one_failure(site: Site, listener: Listener, user: str) -> None:
    task_id = site.delay("hard_limited", user)
    last = listener.until_final(task_id)

    listener.until_final(site.delay("encode", user, "next.mov"))

    listener.assert_states("PENDING", "STARTED", "PROGRESS", "FAILURE", task_id=task_id)
    assert (last.error, last.current) == ("It took too long", 1)


def test_waiting_retry_is_shown_until_it_runs(site: Site, listener: Listener, user: str) -> None:
    task_id = site.delay("retries", user, 1, 3)

    listener.until_final(task_id)

    second_attempt = [event.state for event in listener.of(task_id) if event.attempt == 2]
    assert second_attempt[0] is TaskState.STARTED
    assert TaskState.RECEIVED not in second_attempt


def test_retry_has_its_time_and_the_allowed_attempts(site: Site, listener: Listener, user: str) -> None:
    task_id = site.delay("retries", user, 1, 3)

    last = listener.until_final(task_id)

    retry = [event for event in listener.of(task_id) if event.state is TaskState.RETRY][-1]
    assert (retry.error, retry.attempt, retry.max_attempts) == ("disk is busy", 1, 6)
    assert retry.run_at is not None and retry.at < retry.run_at < retry.at + 3.5
    assert (last.attempt, last.max_attempts, last.run_at) == (2, 6, None)


def test_scheduled_task_has_its_start_time(site: Site, user: str) -> None:
    site.delay("encode", user, "cat.mov", countdown=600)

    (event,) = site.jobpush.tasks(user)

    assert event.run_at is not None and event.created_at + 590 < event.run_at < event.created_at + 610


def test_killed_process_is_a_failure_with_the_progress_so_far(listener: Listener, stubborn: TaskEvent) -> None:
    os.kill(stubborn.data["pid"], signal.SIGKILL)

    last = listener.until_final(stubborn.task_id)

    assert last.state is TaskState.FAILURE
    assert (last.current, last.total) == (1, 2)
    assert last.error == "The process that ran the task died"


def test_cancelled_task_stops_at_its_next_progress_call(own_site: Site, user: str) -> None:
    own_site.start_worker()  # with the default grace; the shared site terminates a task after a short delay
    listener = own_site.listen(user)
    task_id = own_site.delay("waits", user)
    listener.until_state(TaskState.PROGRESS, task_id)

    state = own_site.jobpush.cancel(task_id)

    assert state is TaskState.PROGRESS
    assert listener.until(lambda event: event.cancelling).state is TaskState.PROGRESS
    assert listener.until_final(task_id).state is TaskState.REVOKED
    assert not listener.of(task_id)[-1].cancelling
    cleaned_up = listener.of(task_id)[-1].data
    assert cleaned_up == {"cleaned_up": True}


def test_cancelled_task_that_ignores_the_cancel_is_terminated(
    site: Site, listener: Listener, stubborn: TaskEvent
) -> None:
    site.jobpush.cancel(stubborn.task_id)

    assert listener.until_final(stubborn.task_id).state is TaskState.REVOKED
    listener.assert_states("PENDING", "STARTED", "PROGRESS", "REVOKED", task_id=stubborn.task_id)


def test_cancel_of_a_scheduled_task_ends_it_at_once(site: Site, listener: Listener, user: str) -> None:
    task_id = site.delay("encode", user, "cat.mov", countdown=600)

    assert site.jobpush.cancel(task_id) is TaskState.REVOKED

    assert listener.until_final(task_id).state is TaskState.REVOKED


def test_cancelled_waiting_task_never_runs(site: Site, listener: Listener, user: str, tmp_path: object) -> None:
    task_id = site.delay("touches", user, f"{tmp_path}/was_here", countdown=3)
    site.jobpush.cancel(task_id)

    listener.until_final(site.delay("encode", user, "later.mov", countdown=4))

    assert not os.path.exists(f"{tmp_path}/was_here")
    listener.assert_states("PENDING", "REVOKED", task_id=task_id)


def test_celery_revoke_of_a_running_task(site: Site, listener: Listener, stubborn: TaskEvent) -> None:
    site.app.control.revoke(stubborn.task_id, terminate=True, signal=signal.SIGTERM)

    assert listener.until_final(stubborn.task_id).state is TaskState.REVOKED


def test_expired_task_is_revoked(site: Site, listener: Listener, user: str) -> None:
    task_id = site.delay("encode", user, "cat.mov", expires=-1)

    last = listener.until_final(task_id)

    assert (last.state, last.error) == (TaskState.REVOKED, "The task was not started in time")


def test_unknown_task_is_a_failure(site: Site, listener: Listener, user: str) -> None:
    task_id = site.app.send_task("unregistered", headers={"jobpush_user": user}).id

    last = listener.until_final(task_id)

    assert (last.state, last.error) == (TaskState.FAILURE, "No worker knows the task unregistered")


def test_unknown_task_without_a_stored_state_is_a_failure_too(site: Site, listener: Listener, user: str) -> None:
    stranger = Celery(broker=site.settings["broker_url"], set_as_current=False)
    headers = {"jobpush_user": user, "jobpush_created": 1.0}
    task_id = stranger.send_task("unregistered", headers=headers).id
    stranger.close()

    assert listener.until_final(task_id).state is TaskState.FAILURE


def test_task_with_a_result_that_cannot_be_stored_is_a_failure(
    redis_server: EmbeddedRedis, user: str, tmp_path: Path
) -> None:
    (tmp_path / "results").mkdir()
    backend = f"file://{tmp_path}/results"
    with closing(Site(redis_server, redis_server, tmp_path, backend_url=backend, **PATIENT)) as site:
        site.start_worker("-c", "1")
        listener = site.listen(user)
        task_id = site.delay("reports_until", user, str(tmp_path / "stop"))
        listener.until_state(TaskState.PROGRESS, task_id)

        (tmp_path / "results").rmdir()
        (tmp_path / "stop").touch()

        last = listener.until_final(task_id)
        assert (last.state, last.error) == (TaskState.FAILURE, "The task ran, but its result could not be kept")
        assert last.current == 1_000_000
        assert listener.until_final(site.delay("fails", user)).error == "no such file"
        retries = site.delay("retries", user, 1)
        listener.until_final(retries)
        one_attempt = ["STARTED", "PROGRESS"]
        listener.assert_states("PENDING", *one_attempt, "RETRY", *one_attempt, "FAILURE", task_id=retries)


def test_result_is_published_only_on_request(site: Site, listener: Listener, user: str) -> None:
    asking = site.delay("returns", user, {"url": "/1.mp4"})
    other = site.delay("encode", user, "cat.mov")

    assert listener.until_final(asking).data == {"result": {"url": "/1.mp4"}}
    if not listener.of(other) or not listener.of(other)[-1].state.is_final:
        listener.until_final(other)
    assert listener.of(other)[-1].data == {}


def test_publisher_without_the_task_code_sets_the_user_header(site: Site, listener: Listener, user: str) -> None:
    task_id = site.app.send_task("owned_by_header", headers={"jobpush_user": user}).id

    listener.until_final(task_id)

    listener.assert_states("PENDING", "STARTED", "PROGRESS", "SUCCESS", task_id=task_id)


def test_publisher_without_jobpush_skips_pending(site: Site, listener: Listener, user: str) -> None:
    stranger = Celery(broker=site.settings["broker_url"], set_as_current=False)
    task_id = stranger.send_task("encode", (user, "cat.mov")).id
    stranger.close()

    last = listener.until_final(task_id)

    listener.assert_states("STARTED", "PROGRESS", "SUCCESS", task_id=task_id)
    assert (last.title, last.attempt) == ("Encode cat.mov", 1)
    assert len({event.created_at for event in listener.of(task_id)}) == 1


def test_untracked_task_has_no_user(site: Site, listener: Listener, user: str) -> None:
    task_id = site.delay("plain", headers={"jobpush_user": user})

    listener.until_final(site.delay("encode", user, "next.mov"))

    assert listener.of(task_id) == []


def test_task_published_by_a_task_inherits_its_user(site: Site, listener: Listener, user: str) -> None:
    parent = site.delay("spawns", user)

    child = listener.until(lambda event: event.name == "owned_by_header" and event.state.is_final)

    assert child.state.value == states.SUCCESS
    assert child.task_id != parent
