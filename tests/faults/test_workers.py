"""Workers that are killed, paused, or lose threads, clock changes, and programs that fork or exit."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from jobpush.config import Config
from jobpush.events import TaskState
from jobpush.processes.child import Guard
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.store import Store
from tests.effort import thorough
from tests.waiting import PATIENCE, wait_until

from .crowd import Crowd
from .processes import family, paused
from .programs import CHILDREN
from .stand import Stand

_ROOT = Path(__file__).parents[2]
#: Seconds after which a silent worker counts as dead.
LOST_AFTER = 3.0
#: Timeouts for programs that must not log a warning, even if a busy machine delays Redis.
LONG_TIMEOUTS = {"publish_timeout": 30.0, "flush_timeout": 30.0}


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """One gateway; each test uses its own users, queues and workers."""
    with Stand(tmp_path_factory.mktemp("workers"), lost_after=LOST_AFTER) as stand:
        stand.gateways[0].wait_until_ready()
        yield stand


def open_pages(stand: Stand, user: str) -> Crowd:
    """Open two pages of a user."""
    return stand.open_crowd(users=[user] * 2, channels=())


def assert_received_in_order(crowd: Crowd, stand: Stand) -> None:
    """Check that both pages have received all ends, and all events in order."""
    crowd.wait_for_ends(stand.tasks)
    assert crowd.faults() == []
    assert crowd.ends() == []


def states(crowd: Crowd, task_id: str) -> list[str]:
    """Return the state of a task on each page."""
    return [page.tasks.get(task_id, (0, ""))[1] for page in crowd.visitors]


def wait_for_state(crowd: Crowd, task_id: str, state: str) -> None:
    crowd.wait_until(lambda: set(states(crowd, task_id)) == {state}, lambda: states(crowd, task_id))


def wait_until_seen_to_run(crowd: Crowd, task_ids: set[str]) -> None:
    """Wait until both pages have received progress of all tasks; short ones may have ended since."""
    wanted = {(task_id, "PROGRESS") for task_id in task_ids}
    crowd.wait_until(
        lambda: all(wanted <= page.seen for page in crowd.visitors),
        lambda: [wanted - page.seen for page in crowd.visitors],
    )


def test_tasks_of_a_killed_worker_are_lost_or_run_by_another(stand: Stand) -> None:
    crowd = open_pages(stand, "killed")
    worker = stand.start_worker("-c", "4", "-Q", "killed")
    # Long enough to be seen, and shorter than the 5 s after which the broker redelivers unacknowledged messages.
    late = [stand.delay("killed", "works_acking_late", 150, 0.02, queue="killed") for _ in range(2)]
    early = [stand.delay("killed", "works", 1_000, 0.02, queue="killed") for _ in range(2)]
    wait_until_seen_to_run(crowd, {*late, *early})

    os.kill(worker.pid, signal.SIGKILL)
    stand.start_worker("-c", "4", "-Q", "killed")

    for task_id in early:
        wait_for_state(crowd, task_id, "LOST")
    for task_id in late:
        wait_for_state(crowd, task_id, "SUCCESS")
    assert_received_in_order(crowd, stand)


@thorough
def test_paused_worker_counts_as_dead_until_it_resumes(stand: Stand) -> None:
    crowd = open_pages(stand, "paused")
    worker = stand.start_worker("-c", "2", "-Q", "paused")
    stop = stand.path()
    task_id = stand.run_until("paused", stop, queue="paused")
    wait_for_state(crowd, task_id, "PROGRESS")

    with paused(family(worker.pid)):
        wait_for_state(crowd, task_id, "LOST")

    wait_for_state(crowd, task_id, "PROGRESS")
    stop.touch()
    wait_for_state(crowd, task_id, "SUCCESS")
    assert_received_in_order(crowd, stand)


@thorough
def test_changed_clock_does_not_affect_a_worker(stand: Stand, tmp_path: Path) -> None:
    crowd = open_pages(stand, "clock")
    clock = tmp_path / "clock"
    clock.write_bytes(struct.pack("d", 0.0))
    stand.start_worker("-c", "2", "-Q", "clock", environment={"FAULTS_CLOCK": str(clock)})
    stop = stand.path()
    running = stand.run_until("clock", stop, queue="clock")
    wait_for_state(crowd, running, "PROGRESS")
    before = stand.store.task(running)

    for hours in (2.0, -2.0):
        with clock.open("r+b") as file:
            file.write(struct.pack("d", hours * 3_600))
        wait_until(lambda hours=hours: has_event_with_clock(stand, running, hours), "the worker uses the new clock")
        wait_for_state(crowd, stand.delay("clock", "works", 10, 0.02, queue="clock"), "SUCCESS")
        time.sleep(LOST_AFTER)  # a worker that relied on the clock would have lost its lease

    stop.touch()
    wait_for_state(crowd, running, "SUCCESS")
    last = stand.store.task(running)
    assert (last.attempt, last.current > before.current, last.seq > before.seq) == (1, True, True)
    assert not crowd.states("LOST")
    assert_received_in_order(crowd, stand)


def has_event_with_clock(stand: Stand, task_id: str, hours: float) -> bool:
    """Return whether the time of a task's last event has this offset."""
    return abs(stand.store.task(task_id).at - time.time() - hours * 3_600) < 600


def test_killed_publisher_thread_is_restarted(stand: Stand) -> None:
    crowd = open_pages(stand, "thread")
    stand.start_worker("-P", "threads", "-c", "4", "-Q", "thread")
    stop = stand.path()
    killer = stand.delay("thread", "kills_publisher", stop, queue="thread")
    wait_for_state(crowd, killer, "PROGRESS")

    for _ in range(20):
        stand.delay("thread", "works", 10, 0.02, queue="thread")
    unprintable = stand.delay("thread", "reports_unprintable_message", queue="thread")

    wait_for_state(crowd, unprintable, "SUCCESS")
    stop.touch()
    wait_for_state(crowd, killer, "SUCCESS")
    assert_received_in_order(crowd, stand)


def test_task_that_ends_its_process_fails(stand: Stand) -> None:
    crowd = open_pages(stand, "exits")
    stand.start_worker("-c", "2", "-Q", "exits")

    task_id = stand.delay("exits", "exits", queue="exits")
    other = stand.delay("exits", "works", 10, 0.02, queue="exits")

    wait_for_state(crowd, task_id, "FAILURE")
    wait_for_state(crowd, other, "SUCCESS")
    assert_received_in_order(crowd, stand)


@contextmanager
def started_program(name: str, redis_url: str, user: str, **settings: object) -> Iterator[subprocess.Popen[str]]:
    """Run a program in its own process group, which is killed after the block, even if the test fails."""
    command = [sys.executable, "-m", "tests.faults.programs", name, redis_url, user]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    environment.update((f"JOBPUSH_{setting.upper()}", str(value)) for setting, value in settings.items())
    guard = Guard()
    program = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    guard.watch(program.pid)
    with program:
        try:
            yield program
        finally:
            with suppress(ProcessLookupError):  # the normal case: the whole group has ended
                os.killpg(program.pid, signal.SIGKILL)
            guard.release()


def test_program_exit_waits_until_the_last_state_is_stored(redis_server: EmbeddedRedis, store: Store) -> None:
    with started_program("ends", redis_server.url, "42", **LONG_TIMEOUTS) as program:
        out, err = program.communicate(timeout=PATIENCE)

    assert (out, err, program.returncode) == ("published\n", "", 0)
    task = store.task("42-last")
    assert (task.state, task.current, task.percent) == (TaskState.SUCCESS, 1_000, 100.0)


def test_program_exit_does_not_wait_forever_for_an_unresponsive_redis(redis_server: EmbeddedRedis) -> None:
    with paused([redis_server.pid]), started_program("ends", redis_server.url, "42") as program:
        out, err = program.communicate(timeout=PATIENCE)

    assert (out, program.returncode) == ("published\n", 0)
    assert [line.partition(":")[0] for line in err.splitlines()] == [
        "progress can't be published, tasks continue without it",
        "the process ends before its last progress could be published",
    ]


@thorough
def test_program_may_fork_at_any_time(redis_server: EmbeddedRedis) -> None:
    with started_program("forks", redis_server.url, "42", **LONG_TIMEOUTS) as program:
        out, err = program.communicate(timeout=PATIENCE)

    assert (out, err, program.returncode) == (f"{[0] * CHILDREN}\n", "", 0)
    store = Store(Config(redis_url=redis_server.url, publish_timeout=PATIENCE))
    tasks = {task.task_id: task for task in store.tasks("42")}
    store.close()
    assert {f"42-child-{number}" for number in range(CHILDREN)} <= set(tasks)
    assert {task.state for task in tasks.values()} == {TaskState.SUCCESS}
