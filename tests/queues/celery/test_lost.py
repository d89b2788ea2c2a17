"""Workers that are killed, paused or disconnected: only tasks of dead workers become LOST, and soon."""

from __future__ import annotations

import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from jobpush.config import Config
from jobpush.events import TaskEvent, TaskState
from jobpush.gateway.counters import Refusals
from jobpush.gateway.hub import Hub
from jobpush.processes.child import ChildProcess
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.queues.celery import worker_leases as leases
from jobpush.queues.celery.worker_leases import LeaseKeeper
from jobpush.reporting.identity import TaskIdentity
from jobpush.reporting.records import Ending
from jobpush.store import Store
from jobpush.store.worker_leases import WorkerLeases
from jobpush.testing import PATIENCE
from tests.celery_site.site import PATIENT, Listener, Site
from tests.effort import members, thorough
from tests.waiting import wait_until

#: Seconds after which a silent worker counts as dead: long enough to tolerate stalls of one or two seconds.
LOST_AFTER = 4.0


@pytest.fixture
def site(tmp_path: Path, redis_server: EmbeddedRedis) -> Iterator[Site]:
    with EmbeddedRedis() as broker:
        # A long timeout for events, but the default one for the lease: a third of its length.
        settings = {"lost_after": LOST_AFTER, "visibility_timeout": 2, "publish_timeout": LOST_AFTER / 3}
        site = Site(broker, redis_server, tmp_path, **settings)
        yield site
        site.close()


@pytest.fixture
def gateways(redis_server: EmbeddedRedis) -> Iterator[None]:
    """Two gateways, to check that a loss is published once."""
    hubs = [Hub(Config(redis_url=redis_server.url, lost_after=LOST_AFTER), Refusals()) for _ in range(2)]
    for hub in hubs:
        hub.start()
    yield
    for hub in hubs:
        hub.stop()


@pytest.fixture
def stop_file(tmp_path: Path) -> Path:
    return tmp_path / "stop"


@pytest.fixture
def wait_for_a_death(site: Site, tmp_path: Path) -> Callable[[], None]:
    """
    Return a function that kills an additional worker and waits until its task is LOST.

    Any other dead worker is detected in the same time.
    """

    def wait() -> None:
        user, queue = uuid.uuid4().hex, uuid.uuid4().hex
        listener = site.listen(user)
        worker = site.start_worker("-P", "solo", "-Q", queue)
        task_id = site.delay("stubborn", user, queue=queue)
        listener.until_state(TaskState.PROGRESS, task_id)
        worker.kill()
        listener.until_state(TaskState.LOST, task_id)

    return wait


def steps(listener: Listener, task_id: str) -> list[tuple[str, int]]:
    """Return states and attempts in order, without repetitions, and without RECEIVED, which may arrive late."""
    found: list[tuple[str, int]] = []
    for event in listener.of(task_id):
        step = (event.state.value, event.attempt)
        if event.state is not TaskState.RECEIVED and found[-1:] != [step]:
            found.append(step)
    return found


def is_running(attempt: int, task_id: str) -> Callable[[TaskEvent], bool]:
    return lambda event: (event.task_id, event.state, event.attempt) == (task_id, TaskState.PROGRESS, attempt)


def kill(worker: ChildProcess) -> None:
    """Kill only the parent process, as the kernel does when memory runs out."""
    os.kill(worker.pid, signal.SIGKILL)


@pytest.mark.usefixtures("gateways")
def test_tasks_of_a_killed_worker_are_lost(site: Site, user: str) -> None:
    listener = site.listen(user)
    worker = site.start_worker("-c", "1")
    runs = site.delay("stubborn", user)
    listener.until_state(TaskState.PROGRESS, runs)
    waits = site.delay("encode", user, "cat.mov", countdown=600)
    listener.until_state(TaskState.RECEIVED, waits)

    kill(worker)

    lost = {listener.until(lambda event: event.state is TaskState.LOST).task_id for _ in range(2)}
    assert lost == {runs, waits}
    last = listener.of(runs)[-1]
    assert (last.error, last.current, last.total) == ("The worker of the task died", 1, 2)
    assert [event.state for event in listener.of(runs)].count(TaskState.LOST) == 1


@pytest.mark.usefixtures("gateways")
def test_redelivered_task_runs_as_the_second_attempt(site: Site, user: str, stop_file: Path) -> None:
    listener = site.listen(user)
    worker = site.start_worker("-c", "1")
    task_id = site.delay("late", user, str(stop_file))
    listener.until_state(TaskState.PROGRESS, task_id)

    kill(worker)
    listener.until_state(TaskState.LOST, task_id)
    site.start_worker("-c", "1")
    listener.until(is_running(2, task_id))
    stop_file.touch()
    listener.until_state(TaskState.SUCCESS, task_id)

    first = [("PENDING", 1), ("STARTED", 1), ("PROGRESS", 1), ("LOST", 1)]
    assert steps(listener, task_id) == [*first, ("STARTED", 2), ("PROGRESS", 2), ("SUCCESS", 2)]
    seqs = [event.seq for event in listener.of(task_id)]
    assert seqs == sorted(set(seqs))


@thorough
def test_newest_of_two_workers_with_the_same_task_is_shown(site: Site, user: str, stop_file: Path) -> None:
    listener = site.listen(user)
    site.start_worker("-c", "1")
    task_id = site.delay("late", user, str(stop_file))
    listener.until_state(TaskState.PROGRESS, task_id)

    site.start_worker("-c", "1")
    listener.until(is_running(2, task_id))
    stop_file.touch()
    last = listener.until_state(TaskState.SUCCESS, task_id)

    first = [("PENDING", 1), ("STARTED", 1), ("PROGRESS", 1), ("RETRY", 1)]
    assert steps(listener, task_id)[:4] == first
    attempts = [event.attempt for event in listener.of(task_id)]
    assert attempts == sorted(attempts)
    assert last.attempt == attempts[-1]


@thorough
def test_message_requeued_for_a_dead_process_is_another_attempt(site: Site, user: str, stop_file: Path) -> None:
    listener = site.listen(user)
    site.start_worker("-c", "1")
    task_id = site.delay("late_requeued", user, str(stop_file))
    event = listener.until_state(TaskState.PROGRESS, task_id)

    os.kill(event.data["pid"], signal.SIGKILL)
    listener.until(is_running(2, task_id))
    stop_file.touch()
    listener.until_state(TaskState.SUCCESS, task_id)

    first = [("PENDING", 1), ("STARTED", 1), ("PROGRESS", 1), ("RETRY", 1)]
    assert steps(listener, task_id) == [*first, ("STARTED", 2), ("PROGRESS", 2), ("SUCCESS", 2)]


@thorough
@pytest.mark.usefixtures("gateways")
def test_task_of_a_paused_process_is_not_lost(
    site: Site, user: str, stop_file: Path, wait_for_a_death: Callable[[], None]
) -> None:
    listener = site.listen(user)
    site.start_worker("-c", "1")
    task_id = site.delay("late", user, str(stop_file))
    pid = listener.until_state(TaskState.PROGRESS, task_id).data["pid"]

    os.kill(pid, signal.SIGSTOP)
    wait_for_a_death()
    os.kill(pid, signal.SIGCONT)
    stop_file.touch()
    listener.until_state(TaskState.SUCCESS, task_id)

    assert TaskState.LOST not in {event.state for event in listener.of(task_id) if event.attempt == 1}


@thorough
@pytest.mark.usefixtures("gateways")
def test_task_that_blocks_its_process_is_not_lost(site: Site, user: str, wait_for_a_death: Callable[[], None]) -> None:
    listener = site.listen(user)
    workers = [
        site.start_worker("-c", "1", "-Q", "prefork"),
        site.start_worker("-P", "threads", "-c", "1", "-Q", "threads"),
    ]
    wait_for_a_death()  # all threads and processes of the workers have started
    task_ids = [site.delay("hogs", user, queue=queue) for queue in ("prefork", "threads")]
    for _ in task_ids:
        listener.until_state(TaskState.PROGRESS)

    wait_for_a_death()

    for task_id in task_ids:
        assert steps(listener, task_id) == [("PENDING", 1), ("STARTED", 1), ("PROGRESS", 1)]
    for worker in workers:
        worker.kill()  # it would not react to a signal


#: A worker whose lease is renewed only by its sidecar, and that has forked a child.
FORKING_WORKER = """
import os, sys, time
from jobpush.config import Config
from jobpush.queues.celery.lease_sidecar import LeaseSidecar

sidecar = LeaseSidecar(Config(redis_url=sys.argv[1], lost_after=1.2), "worker")
os.fork()
time.sleep(3600)
"""


def test_lease_sidecar_ends_with_its_worker_despite_forked_children(store: Store, tmp_path: Path) -> None:
    short = WorkerLeases(replace(store.config, lost_after=0.3)).hold("worker")
    worker = ChildProcess([sys.executable, "-c", FORKING_WORKER, store.config.redis_url], log=tmp_path / "log")

    def seconds_left() -> float:
        (expires_at,) = store.run([("ZSCORE", store.keys.workers, "worker")])
        return float(expires_at) - time.time()

    def is_renewed() -> bool:
        if seconds_left() > 0.4:
            return True  # only the sidecar stores this value
        store.run(short)
        return False

    store.run(short)
    wait_until(is_renewed, seconds_left)

    kill(worker)

    wait_until(lambda: seconds_left() < 0, seconds_left)
    worker.kill()


@pytest.mark.usefixtures("gateways")
def test_task_of_a_paused_worker_is_lost_until_the_worker_resumes(site: Site, user: str, stop_file: Path) -> None:
    listener = site.listen(user)
    worker = site.start_worker("-c", "1")
    task_id = site.delay("silent_until", user, str(stop_file))
    listener.until_state(TaskState.STARTED, task_id)

    os.kill(worker.pid, signal.SIGSTOP)
    listener.until_state(TaskState.LOST, task_id)
    os.kill(worker.pid, signal.SIGCONT)
    listener.until_state(TaskState.STARTED, task_id)
    stop_file.touch()
    listener.until_state(TaskState.SUCCESS, task_id)

    expected = [("PENDING", 1), ("STARTED", 1), ("LOST", 1), ("STARTED", 1), ("SUCCESS", 1)]
    assert steps(listener, task_id) == expected


@pytest.mark.usefixtures("gateways")
def test_broker_outage_loses_no_task(
    site: Site, user: str, stop_file: Path, wait_for_a_death: Callable[[], None]
) -> None:
    listener = site.listen(user)
    site.start_worker("-c", "1")
    task_id = site.delay("silent_until", user, str(stop_file))
    listener.until_state(TaskState.STARTED, task_id)

    site.broker.restart(keep_data=True)
    wait_for_a_death()
    stop_file.touch()
    listener.until_state(TaskState.SUCCESS, task_id)

    assert steps(listener, task_id) == [("PENDING", 1), ("STARTED", 1), ("SUCCESS", 1)]


@thorough
def test_task_stopped_by_a_broker_outage_is_lost_until_redelivered(
    redis_server: EmbeddedRedis, user: str, stop_file: Path, tmp_path: Path
) -> None:
    settings = {"visibility_timeout": 2, "stops_without_broker": True, **PATIENT}
    with EmbeddedRedis() as broker, closing(Site(broker, redis_server, tmp_path, **settings)) as site:
        listener = site.listen(user)
        site.start_worker("-c", "1")
        task_id = site.delay("late", user, str(stop_file))
        listener.until_state(TaskState.PROGRESS, task_id)

        broker.restart(keep_data=True)

        lost = listener.until_state(TaskState.LOST, task_id)
        assert lost.error == "The worker stopped the task before its end"
        listener.until(is_running(2, task_id))
        stop_file.touch()
        listener.until_state(TaskState.SUCCESS, task_id)


@pytest.mark.usefixtures("gateways")
@pytest.mark.parametrize("keep_data", members([True, False]))
def test_redis_outage_loses_no_task(
    site: Site, user: str, stop_file: Path, wait_for_a_death: Callable[[], None], keep_data: bool
) -> None:
    listener = site.listen(user)
    site.start_worker("-c", "1")
    task_id = site.delay("reports_until", user, str(stop_file))
    listener.until_state(TaskState.PROGRESS, task_id)

    site.redis.restart(keep_data=keep_data)
    listener = site.listen(user)
    wait_for_a_death()
    stop_file.touch()
    listener.until_state(TaskState.SUCCESS, task_id)

    assert {event.state for event in listener.of(task_id)} <= {TaskState.PROGRESS, TaskState.SUCCESS}


@thorough
@pytest.mark.usefixtures("gateways")
def test_frozen_redis_loses_no_task(
    site: Site, user: str, stop_file: Path, wait_for_a_death: Callable[[], None]
) -> None:
    listener = site.listen(user)
    site.start_worker("-c", "1")
    task_id = site.delay("reports_until", user, str(stop_file))
    listener.until_state(TaskState.PROGRESS, task_id)

    os.kill(site.redis.pid, signal.SIGSTOP)
    signal.sigtimedwait([], 2 * LOST_AFTER)  # longer than any lease
    os.kill(site.redis.pid, signal.SIGCONT)
    wait_for_a_death()
    stop_file.touch()
    listener.until_state(TaskState.SUCCESS, task_id)

    assert TaskState.LOST not in {event.state for event in listener.of(task_id)}


def test_running_task_of_a_cold_shutdown_is_lost(site: Site, user: str) -> None:
    listener = site.listen(user)
    worker = site.start_worker("-c", "1")
    task_id = site.delay("stubborn", user)
    listener.until_state(TaskState.PROGRESS, task_id)

    worker.stop(signal.SIGQUIT, grace=30)

    assert listener.until_state(TaskState.LOST, task_id).error == "The worker stopped the task before its end"


@thorough
@pytest.mark.usefixtures("gateways")
def test_requeued_task_of_a_cold_shutdown_is_lost(site: Site, user: str, stop_file: Path) -> None:
    listener = site.listen(user)
    worker = site.start_worker("-c", "1")
    task_id = site.delay("late", user, str(stop_file))
    listener.until_state(TaskState.PROGRESS, task_id)

    worker.stop(signal.SIGQUIT, grace=30)

    listener.until_state(TaskState.LOST, task_id)  # Celery sends no task signal here


def test_waiting_task_survives_a_warm_shutdown(site: Site, user: str) -> None:
    listener = site.listen(user)
    worker = site.start_worker("-c", "1")
    listener.until_final(site.delay("encode", user, "first.mov"))  # the countdown must start after the worker
    task_id = site.delay("encode", user, "cat.mov", countdown=4)
    listener.until_state(TaskState.RECEIVED, task_id)

    worker.stop(signal.SIGTERM, grace=30)
    site.start_worker("-c", "1")
    last = listener.until_final(task_id)

    assert (last.state, last.attempt) == (TaskState.SUCCESS, 1)
    assert TaskState.LOST not in {event.state for event in listener.of(task_id)}


def test_task_that_vanished_without_an_end_is_lost(site: Site, user: str) -> None:
    listener = site.listen(user)
    site.start_worker("-P", "threads", "-c", "1")
    task_id = site.delay("vanishes", user, True)

    last = listener.until_final(task_id)

    assert (last.state, last.error) == (TaskState.LOST, "The process of the task ended without reporting a result")


def test_end_known_only_to_the_parent_process_is_published_by_it(site: Site, user: str) -> None:
    listener = site.listen(user)
    site.start_worker("-P", "threads", "-c", "1")
    task_id = site.delay("vanishes", user)

    assert listener.until_final(task_id).state is TaskState.SUCCESS


@pytest.fixture
def freeze(redis_server: EmbeddedRedis) -> Iterator[Callable[[], Callable[[], None]]]:
    """Return a function that freezes the Redis of the events, and returns a function that resumes it."""

    def thaw() -> None:
        os.kill(redis_server.pid, signal.SIGCONT)

    def freeze() -> Callable[[], None]:
        os.kill(redis_server.pid, signal.SIGSTOP)
        return thaw

    yield freeze
    thaw()


@pytest.mark.usefixtures("gateways")
@pytest.mark.parametrize(
    ("end", "error"), members([("SUCCESS", None), ("FAILURE", "broke"), ("REVOKED", "not needed")]), ids=str
)
def test_end_is_published_after_the_process_exited_during_a_redis_outage(
    site: Site, user: str, stop_file: Path, freeze: Callable[[], Callable[[], None]], end: str, error: str | None
) -> None:
    listener = site.listen(user)
    site.start_worker("-c", "1", "--max-tasks-per-child=1")
    task_id = site.delay("ends_when", user, str(stop_file), end)
    listener.until_state(TaskState.STARTED, task_id)

    thaw = freeze()
    stop_file.touch()
    wait_until(lambda: "its last progress" in site.log)
    thaw()

    last = listener.until_final(task_id)
    assert (last.state.value, last.error) == (end, error)
    assert TaskState.LOST not in {event.state for event in listener.of(task_id)}


@pytest.mark.usefixtures("gateways")
@pytest.mark.parametrize("pool", members(["threads", "prefork"]))
def test_end_is_published_after_the_worker_stopped_during_a_redis_outage(
    site: Site, user: str, stop_file: Path, freeze: Callable[[], Callable[[], None]], pool: str
) -> None:
    listener = site.listen(user)
    worker = site.start_worker("-c", "1", "-P", pool)
    task_id = site.delay("ends_when", user, str(stop_file), "SUCCESS")
    listener.until_state(TaskState.STARTED, task_id)

    thaw = freeze()
    os.kill(worker.pid, signal.SIGTERM)
    stop_file.touch()
    wait_until(lambda: " succeeded in " in site.log)
    if pool == "prefork":
        wait_until(lambda: "its last progress" in site.log)
    thaw()

    assert listener.until_final(task_id).state is TaskState.SUCCESS
    assert TaskState.LOST not in {event.state for event in listener.of(task_id)}


def test_lease_is_held_before_the_first_message_is_taken(store: Store) -> None:
    keeper = LeaseKeeper(store.config)

    keeper.start()  # otherwise the death of a worker during its first task could go undetected

    assert store.run([("ZSCORE", store.keys.workers, keeper.worker_id)]) != [None]
    keeper.stop()


class Request:
    """Replaces Celery's request, which is garbage-collected when the worker has finished it."""

    time_start: float | None = None
    acknowledged = False


@thorough
def test_final_write_gets_its_time_once_redis_is_back(redis_server: EmbeddedRedis) -> None:
    """Ends cannot be published during a Redis outage; after it, LOST must not be published too early."""
    store = Store(Config(redis_url=redis_server.url, lost_after=LOST_AFTER, publish_timeout=PATIENCE))
    keeper = LeaseKeeper(replace(store.config, publish_timeout=0.25))
    keeper.start()
    request = Request()
    tracked = keeper.take(request, TaskIdentity("task-1", "42", "encode", "Encode", created_at=time.time()))
    store.publish([tracked.write(tracked.event(TaskState.STARTED), task_ttl=60)])

    del request
    wait_until(lambda: all(held.over_since for held in keeper._snapshot()))
    os.kill(redis_server.pid, signal.SIGSTOP)
    time.sleep(2 * LOST_AFTER)  # no event marks the time at which the keeper would publish LOST
    os.kill(redis_server.pid, signal.SIGCONT)
    wait_until(lambda: is_held(store, keeper.worker_id))
    time.sleep(LOST_AFTER / 3)

    assert store.task("task-1").state is TaskState.STARTED
    wait_until(lambda: store.task("task-1").state is TaskState.LOST)
    keeper.stop()
    store.close()


def test_ends_after_an_outage_take_few_round_trips(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease is not renewed meanwhile: with two round trips per end, a live worker would count as dead."""
    keeper = LeaseKeeper(store.config)
    for number in range(100):
        tracked = keeper.take(Request(), TaskIdentity(f"task-{number}", "42", "encode", "Encode", created_at=1.0))
        store.publish([tracked.write(tracked.event(TaskState.STARTED), task_ttl=60)])
        keeper.record_end(Ending(f"task-{number}", TaskState.SUCCESS, delivery=tracked.delivery))
    for held in keeper._snapshot():
        held.over_since = 1.0  # long ago
    keeper._reached_since = 2.0
    calls, run = [], keeper._store.run
    monkeypatch.setattr(keeper._store, "run", lambda requests, **options: calls.append(1) or run(requests, **options))

    keeper._settle()

    assert len(calls) <= 3
    assert keeper._snapshot() == []
    assert {task.state for task in store.tasks("42", limit=200)} == {"SUCCESS"}
    keeper.stop()


def test_finished_messages_kept_during_an_outage_are_bounded(
    redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "MAX_OVER", 10)
    redis_server.kill()
    keeper = LeaseKeeper(Config(redis_url=redis_server.url, lost_after=0.1, publish_timeout=0.05))
    runs = Request()
    taken = keeper.take(runs, TaskIdentity("runs", "42", "encode", "Encode", created_at=1.0))
    for number in range(100):
        keeper.take(Request(), TaskIdentity(f"task-{number}", "42", "encode", "Encode", created_at=1.0))

    keeper.start()

    wait_until(lambda: len(keeper._snapshot()) == 11)  # MAX_OVER finished ones, and the running one
    assert keeper.delivery_of("runs") == taken.delivery
    assert [bool(keeper.delivery_of(f"task-{number}")) for number in (0, 89, 90, 99)] == [False, False, True, True]
    redis_server.restart(keep_data=False)
    wait_until(lambda: len(keeper._snapshot()) == 1)
    keeper.stop()


def is_held(store: Store, worker_id: str) -> bool:
    """Return whether a worker still holds its lease."""
    (score,) = store.run([("ZSCORE", store.keys.workers, worker_id)])
    return score is not None and float(score) > time.time()
