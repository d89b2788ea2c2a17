"""Redis away, slow or empty: progress may be late, the task is not."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from celery import group
from celery.signals import worker_process_shutdown

from jobpush import JobPush
from jobpush.errors import JobPushError, StoreError, TaskNotFound
from jobpush.events import TaskEvent, TaskState
from jobpush.processes.embedded import EmbeddedRedis
from tests.celery_site.site import PATIENT
from tests.celery_site.watched_tasks import make_app
from tests.effort import thorough
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.celery_site.site import Eager, Site


class SilentServer:
    """Accepts and counts connections, and sends nothing."""

    def __init__(self) -> None:
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._accepted: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._socket.getsockname()[1]}/0"

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for one in (self._socket, *self._accepted):
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                self._accepted.append(self._socket.accept()[0])
            except OSError:
                return
            self.connections += 1


@pytest.fixture
def silent_server() -> Iterator[SilentServer]:
    server = SilentServer()
    yield server
    server.close()


def stored(site: Site, user: str, task_id: str) -> TaskEvent | None:
    try:
        return next((event for event in site.jobpush.tasks(user) if event.task_id == task_id), None)
    except (StoreError, TaskNotFound):
        return None


def wait_until_stored(site: Site, user: str, task_id: str, state: TaskState) -> TaskEvent:
    def is_there() -> bool:
        event = stored(site, user, task_id)
        return event is not None and event.state is state

    wait_until(is_there)
    event = stored(site, user, task_id)
    assert event is not None
    return event


def test_end_during_an_outage_is_published_to_an_emptied_redis(own_site: Site, user: str, tmp_path: Path) -> None:
    own_site.start_worker()
    listener = own_site.listen(user)
    task_id = own_site.delay("reports_until", user, str(tmp_path / "stop"))
    before = listener.until_state(TaskState.PROGRESS, task_id)

    own_site.redis.kill()
    (tmp_path / "stop").touch()
    wait_until(lambda: f"[{task_id}] succeeded" in own_site.log)
    own_site.redis.restart(keep_data=False)

    last = wait_until_stored(own_site, user, task_id, TaskState.SUCCESS)
    assert (last.current, last.percent) == (1_000_000, 100.0)
    assert last.seq > before.seq
    assert own_site.log.count("progress can't be published") == 1


@thorough
def test_task_that_outlives_an_outage_continues_its_bar(own_site: Site, user: str, tmp_path: Path) -> None:
    own_site.start_worker()
    listener = own_site.listen(user)
    task_id = own_site.delay("reports_until", user, str(tmp_path / "stop"))
    before = listener.until_state(TaskState.PROGRESS, task_id)

    own_site.redis.restart(keep_data=False)

    again = wait_until_stored(own_site, user, task_id, TaskState.PROGRESS)
    assert again.seq > before.seq
    assert again.current >= before.current
    (tmp_path / "stop").touch()
    assert wait_until_stored(own_site, user, task_id, TaskState.SUCCESS).seq > again.seq


def test_cancel_works_after_an_outage(own_site: Site, user: str) -> None:
    own_site.start_worker()
    task_id = own_site.delay("waits", user)
    wait_until_stored(own_site, user, task_id, TaskState.PROGRESS)

    own_site.redis.restart(keep_data=False)
    wait_until_stored(own_site, user, task_id, TaskState.PROGRESS)
    own_site.jobpush.cancel(task_id)

    wait_until_stored(own_site, user, task_id, TaskState.REVOKED)


def test_unresponsive_redis_does_not_delay_a_task(hasty_site: Site, user: str, tmp_path: Path) -> None:
    hasty_site.start_worker()
    listener = hasty_site.listen(user)
    task_id = hasty_site.delay("reports_until", user, str(tmp_path / "stop"))
    listener.until_state(TaskState.PROGRESS, task_id)

    os.kill(hasty_site.redis.pid, signal.SIGSTOP)
    (tmp_path / "stop").touch()
    wait_until(lambda: f"[{task_id}] succeeded" in hasty_site.log)
    os.kill(hasty_site.redis.pid, signal.SIGCONT)

    assert listener.until_final(task_id).state is TaskState.SUCCESS


def test_delay_waits_for_an_unresponsive_redis_only_once(
    silent_server: SilentServer, caplog: pytest.LogCaptureFixture
) -> None:
    app, jobpush = make_app("memory://", silent_server.url, retry_interval=3600.0, flush_timeout=0.0)

    with caplog.at_level(logging.WARNING):
        for _ in range(50):
            app.tasks["encode"].delay("42", "cat.mov")

    assert silent_server.connections == 1
    said = [record.message.partition(":")[0] for record in caplog.records if record.name.startswith("jobpush")]
    assert said == ["progress can't be published, tasks continue without it"]
    worker_process_shutdown.send(sender=None)  # gives up what is left, or the end of the tests would
    app.close()


def test_pending_state_of_delay_is_published_once_redis_is_back(redis_server: EmbeddedRedis, user: str) -> None:
    app, jobpush = make_app("memory://", redis_server.url, retry_interval=0.05, **PATIENT)
    redis_server.kill()
    task_ids = {app.tasks["encode"].delay(user, "cat.mov").id for _ in range(3)}

    redis_server.restart(keep_data=False)

    def are_there() -> bool:
        try:
            return {event.task_id for event in jobpush.tasks(user)} == task_ids
        except StoreError:
            return False

    wait_until(are_there)
    assert {event.state for event in jobpush.tasks(user)} == {TaskState.PENDING}
    app.close()


def test_task_refused_by_the_broker_is_withdrawn(redis_url: str, user: str) -> None:
    app, jobpush = make_app("redis://127.0.0.1:1/0", redis_url, **PATIENT)
    app.conf.broker_transport_options = {"max_retries": 0}

    with pytest.raises(app.connection().connection_errors + (app.tasks["encode"].OperationalError,)):
        app.tasks["encode"].apply_async((user, "cat.mov"), retry=False)

    wait_until(lambda: jobpush.tasks(user)[0].state is TaskState.REVOKED)
    assert jobpush.tasks(user)[0].error == "The task could not be queued"
    app.close()


def test_members_withdrawn_during_an_outage_stay_in_their_workflow(redis_server: EmbeddedRedis, user: str) -> None:
    app, jobpush = make_app("redis://127.0.0.1:1/0", redis_server.url, retry_interval=0.05)
    app.conf.broker_transport_options = {"max_retries": 0}
    workflow = jobpush.track_workflow(group(app.tasks["part"].si(), app.tasks["part"].si()), user)
    redis_server.kill()

    with pytest.raises(app.connection().connection_errors + (app.tasks["part"].OperationalError,)):
        workflow.apply_async(retry=False)
    redis_server.restart(keep_data=False)

    wait_until(lambda: bool(children_of(jobpush, workflow.task_id)))
    assert {task.task_id for task in jobpush.tasks(user)} == {workflow.task_id}
    assert {child.error for child in children_of(jobpush, workflow.task_id)} == {"The task could not be queued"}
    app.close()


def children_of(jobpush: JobPush, task_id: str) -> Sequence[TaskEvent]:
    """The members of a workflow, as far as Redis is there and knows it."""
    try:
        return jobpush.children(task_id)
    except JobPushError:
        return []


def test_million_updates_make_few_events_and_an_exact_last_one(own_site: Site, user: str) -> None:
    own_site.start_worker()
    listener = own_site.listen(user)
    task_id = own_site.delay("counts", user, 1_000_000)

    last = listener.until_final(task_id)

    assert (last.state, last.current, last.total) == (TaskState.SUCCESS, 1_000_000, 1_000_000)
    assert len(listener.of(task_id)) < 200
    currents = [event.current for event in listener.of(task_id)]
    assert currents == sorted(currents)


def test_task_runs_without_new_threads(eager: Eager) -> None:
    before = threading.stack_size(1 << 47)  # more than there are addresses
    try:
        result = eager.app.tasks["encode"].apply((eager.user, "cat.mov"))
    finally:
        threading.stack_size(before)

    assert (result.state, result.result) == ("SUCCESS", "cat.mov")
    eager.listener.assert_states("PENDING", "STARTED", "PROGRESS", "SUCCESS")  # the last two now that a thread can be


def test_publisher_works_in_a_forked_child(redis_url: str, user: str) -> None:
    app, jobpush = make_app("memory://", redis_url, **PATIENT)
    app.tasks["encode"].delay(user, "parent.mov")  # connected, and the thread runs

    pid = os.fork()
    if pid == 0:
        try:
            app.tasks["encode"].apply((user, "child.mov"), task_id="child")
            worker_process_shutdown.send(sender=None)  # as at the end of a pool's child
        finally:
            os._exit(0)

    os.waitpid(pid, 0)
    assert {(event.title, event.state) for event in jobpush.tasks(user)} == {
        ("Encode parent.mov", TaskState.PENDING),
        ("Encode child.mov", TaskState.SUCCESS),
    }
    app.close()
