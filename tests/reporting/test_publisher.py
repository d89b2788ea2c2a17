"""What can't be published is lost, and nothing else with it."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from types import FrameType
from typing import Any

import pytest

from jobpush.errors import CommandRefused, StoreError
from jobpush.events import TaskState
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.reporting.identity import TaskIdentity
from jobpush.reporting.publisher import Publisher
from jobpush.reporting.records import Ending
from jobpush.reporting.running_task import Clock, RunningTask
from jobpush.store import Membership, Store, TaskWrite, WorkflowPlan
from jobpush.store.keys import tag_of
from jobpush.testing import PATIENCE, FakeClock, RecordedEvents
from tests.store.hanging_shard import HangingShard
from tests.waiting import wait_until

USER = "42"
#: It has no form on the wire.
NOTHING: Any = math.nan


def tracked(task_id: str, **values: Any) -> TaskIdentity:
    return TaskIdentity(task_id, USER, values.pop("name", "encode"), "Encode", created_at=1.0, **values)


def write(task_id: str, state: TaskState, *, progress: Any = 0, **values: Any) -> TaskWrite:
    task = tracked(task_id, **values)
    return task.write(task.event(state, current=progress), task_ttl=60)


def submit_write(publisher: Publisher) -> None:
    publisher.submit(write("bad", TaskState.PROGRESS, progress=NOTHING))


def submit_write_among_others(publisher: Publisher) -> None:
    publisher.submit(write("one", TaskState.PROGRESS, progress=NOTHING))


def submit_snapshot(publisher: Publisher) -> None:
    RunningTask(tracked("bad", max_attempts=NOTHING), publisher, publisher._config).mark_changed()


def submit_ending(publisher: Publisher) -> None:
    publisher.submit_ending(Ending("two", TaskState.FAILURE, error=NOTHING))


def submit_workflow(publisher: Publisher) -> None:
    publisher.publish_workflow(NOTHING, "workflow")


def log_line(publisher: Publisher, task_id: str, clock: Clock = time) -> None:
    RunningTask(tracked(task_id), publisher, publisher._config, clock).log("a line", level="info")


def submit_line(publisher: Publisher) -> None:
    log_line(publisher, "two", FakeClock(NOTHING))


def submit_durations(publisher: Publisher) -> None:
    publisher.record_durations("encode", {"stage": "long"})  # type: ignore[dict-item]


GUILTY = [
    submit_write,
    submit_write_among_others,
    submit_snapshot,
    submit_ending,
    submit_workflow,
    submit_line,
    submit_durations,
]


@pytest.fixture
def publisher(store: Store) -> Publisher:
    config = replace(store.config, flush_timeout=PATIENCE, min_interval=3_600.0)
    return Publisher(Store(config), config, on_cancelled=lambda task_id: None)


def begin_workflow_that_has_more_to_tell(store: Store) -> None:
    """The first change of a member is published at once, the others in an hour."""
    patient = Store(replace(store.config, min_interval=3_600.0))
    patient.publish([replace(write("workflow", TaskState.PENDING), plan=WorkflowPlan(3, 3.0))])
    membership = Membership("0:3", is_planned=True)
    for number in range(2):
        member = write(f"member-{number}", TaskState.SUCCESS, root_id="workflow", membership=membership)
        patient.publish([member])
    patient.close()


@pytest.mark.parametrize("submit_guilty", GUILTY)
def test_unpublishable_state_takes_no_other_along(
    submit_guilty: Callable[[Publisher], None], publisher: Publisher, store: Store
) -> None:
    listener = RecordedEvents(store.config.redis_url, USER)
    begin_workflow_that_has_more_to_tell(store)
    store.publish([write("two", TaskState.PENDING), write("three", TaskState.PENDING)])
    running = RunningTask(tracked("running"), publisher, store.config)
    running.current = 5

    with publisher._lock:  # so its thread takes all of it at once
        publisher.submit(write("one", TaskState.STARTED))
        submit_guilty(publisher)
        publisher.submit(write("one", TaskState.SUCCESS))
        running.mark_changed()
        publisher.submit_ending(Ending("three", TaskState.FAILURE))
        publisher.publish_workflow(USER, "workflow")
        log_line(publisher, "one")
        publisher.record_durations("other", {"stage": 2.0})
        is_done = publisher.flush()

    assert is_done
    listener.assert_states("STARTED", "SUCCESS", task_id="one")
    listener.assert_states("PENDING", "FAILURE", task_id="three")
    listener.assert_states("PROGRESS", task_id="running")
    assert listener.of("running")[-1].current == 5
    assert listener.of("workflow")[-1].current == 2
    assert sum(b"a line" in message for message in listener.messages) == 1
    assert store.start(write("four", TaskState.STARTED, name="other"))[1] == {"stage": 2.0}
    listener.close()


def sleeps(publisher: Publisher) -> bool:
    return publisher._sleeps_until > time.monotonic()


@pytest.fixture
def sent(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The tasks of each round trip of the publisher's thread; progress waits for others for as long as it may."""
    monkeypatch.setattr("jobpush.reporting.schedule.MAX_HOLD", math.inf)
    return note_sent(publisher, monkeypatch)


def note_sent(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    sent: list[set[str]] = []
    publish = publisher._sender.patient_store.publish_each

    def noted(writes: Sequence[TaskWrite], *rest: Any) -> Any:
        sent.append({write.event.task_id for write in writes})
        return publish(writes, *rest)

    monkeypatch.setattr(publisher._sender.patient_store, "publish_each", noted)
    return sent


def test_progress_of_several_tasks_takes_one_round_trip(
    publisher: Publisher, store: Store, sent: list[set[str]]
) -> None:
    for name in ("first", "second", "third"):
        RunningTask(tracked(name), publisher, publisher._config).mark_changed()
        if name == "third":  # the thread wakes anyway when it may go, and is not woken before
            assert publisher._sleeps_until == publisher._schedule.next_progress_at
        wait_until(partial(sleeps, publisher))
    assert sent == [{"first"}]

    publisher.submit(write("urgent", TaskState.SUCCESS))  # it takes along what waits
    wait_until(lambda: sleeps(publisher) and len(sent) > 1)

    assert sent == [{"first"}, {"second", "third", "urgent"}]
    assert {event.task_id for event in store.tasks(USER)} == {"first", "second", "third", "urgent"}


def test_ended_attempt_publishes_nothing_more(publisher: Publisher, store: Store, sent: list[set[str]]) -> None:
    """Another worker may have the message by then; and while Redis is away, the newest is kept of each task."""
    running = RunningTask(tracked("rejected"), publisher, publisher._config)
    RunningTask(tracked("first"), publisher, publisher._config).mark_changed()
    wait_until(partial(sleeps, publisher))
    running.mark_changed()  # which waits for others

    publisher.publish_now(running.final_writes(TaskState.RETRY))
    running.mark_changed()  # as a ``finally`` may
    assert publisher.flush()

    assert sent == [{"first"}]
    assert store.task("rejected").state is TaskState.RETRY


def test_delayed_progress_is_published_eventually(publisher: Publisher, store: Store) -> None:
    names = {"first", "second", "third"}
    for name in names:
        RunningTask(tracked(name), publisher, publisher._config).mark_changed()

    wait_until(lambda: {event.task_id for event in store.tasks(USER)} == names)


def test_unpublishable_state_keeps_those_waiting_for_redis(
    publisher: Publisher, redis_server: EmbeddedRedis, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.kill()
    publisher._breaker.failed("Redis is away")

    with publisher._lock:
        submit_write(publisher)
        for number in range(3):
            publisher.submit(write(f"task-{number}", TaskState.SUCCESS))
    redis_server.restart(keep_data=False)

    assert publisher.flush()
    assert {task.task_id for task in store.tasks(USER)} == {"task-0", "task-1", "task-2"}
    assert caplog.text.count("progress could not be published") == 2


@pytest.fixture
def refused_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every write of the task ``bad`` refused, as by a Redis that ran into a bug of a script."""
    publish = Store.publish_each

    def checked(store: Store, writes: Sequence[TaskWrite], *rest: Any, **options: Any) -> Any:
        if any(write.event.task_id == "bad" for write in writes):
            raise CommandRefused("ERR user_script:1: refused")
        return publish(store, writes, *rest, **options)

    monkeypatch.setattr(Store, "publish_each", checked)


@pytest.mark.usefixtures("refused_task")
@pytest.mark.parametrize("is_waited_for", [False, True])
def test_state_refused_by_redis_is_dropped_and_delays_no_other(
    is_waited_for: bool, publisher: Publisher, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    if is_waited_for:
        publisher.publish_now([write("bad", TaskState.STARTED)])
    with publisher._lock:
        publisher.submit(write("good", TaskState.STARTED))
        publisher.submit(write("bad", TaskState.PROGRESS))
        log_line(publisher, "good")
    is_done = publisher.flush()

    assert is_done  # it was retried for ever, and delayed all other tasks
    assert [task.task_id for task in store.tasks(USER)] == ["good"]
    assert "user_script:1: refused" in caplog.text
    wait_until(lambda: not publisher._breaker.is_open)


@pytest.mark.usefixtures("refused_task")
def test_last_state_waits_when_redis_fails_during_a_refusal(
    publisher: Publisher, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, failures = publisher._sender.patient_store.publish_each, iter([StoreError("gone")])

    def once_gone(writes: Sequence[TaskWrite], *rest: Any) -> Any:
        if [write.event.task_id for write in writes] == ["good"] and (failure := next(failures, None)):
            raise failure
        return publish(writes, *rest)

    monkeypatch.setattr(publisher._sender.patient_store, "publish_each", once_gone)
    with publisher._lock:
        publisher.submit(write("good", TaskState.STARTED))
        publisher.submit(write("good", TaskState.SUCCESS))
        publisher.submit(write("bad", TaskState.PROGRESS))

    assert publisher.flush()
    assert next(failures, None) is None
    assert store.task("good").state is TaskState.SUCCESS


def test_change_published_during_the_end_does_not_follow_it(
    publisher: Publisher, store: Store, sent: list[set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = RunningTask(tracked("task"), publisher, publisher._config)
    changed = publisher.changed

    def late(task: RunningTask) -> None:  # as a thread of the task that was held up on its way
        running.finish(TaskState.SUCCESS)
        changed(task)

    monkeypatch.setattr(publisher, "changed", late)
    running.mark_changed()
    assert publisher.flush()

    assert sent == [{"task"}]
    assert not publisher._schedule


def test_workflow_published_after_its_members_ended_has_their_end(publisher: Publisher, store: Store) -> None:
    membership = Membership("0:1", is_planned=True)
    store.publish([write("member", TaskState.SUCCESS, root_id="workflow", membership=membership)])

    publisher.submit(replace(write("workflow", TaskState.PENDING), plan=WorkflowPlan(1, 1.0)))
    assert publisher.flush()

    assert store.task("workflow").state is TaskState.SUCCESS


def test_forked_child_publishes_nothing_of_its_parents_task(
    publisher: Publisher, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    running = RunningTask(tracked("task"), publisher, publisher._config)
    running.current = 5
    read_end, write_end = os.pipe()

    pids = []
    for _ in range(4):
        pids.append(os.fork())
        if pids[-1] == 0:
            running.current += 100
            running.mark_changed()
            publisher.flush()
            os.write(write_end, b"line\n" * len(caplog.records))
            os._exit(0)
        os.waitpid(pids[-1], 0)
    os.close(write_end)
    running.mark_changed()
    assert publisher.flush()

    assert store.task("task").current == 5
    assert os.read(read_end, 100) == b"line\n"
    os.close(read_end)


class SoftTimeLimit(BaseException):
    """Raised by a signal's handler, as Celery's is: anywhere in what the task is calling."""


def interrupted(call: Callable[[], None], number: int) -> bool:
    """Raise at the n-th call or return in what is called, which is where Python lets signals in; whether it has n."""
    left = number

    def count_down(frame: FrameType, event: str, argument: object) -> None:
        nonlocal left
        if event == "c_call" or frame.f_code.co_filename == __file__:
            return
        left -= 1
        if left < 0:
            sys.setprofile(None)
            raise SoftTimeLimit

    try:
        sys.setprofile(count_down)
        call()
    except SoftTimeLimit:
        return True
    finally:
        sys.setprofile(None)
    return False


def submitting(publisher: Publisher, task_id: str) -> Callable[[], None]:
    return partial(publisher.submit, write(task_id, TaskState.STARTED))


def changing(publisher: Publisher, task_id: str) -> Callable[[], None]:
    return RunningTask(tracked(task_id), publisher, publisher._config).mark_changed


@pytest.mark.parametrize("call_of", [submitting, changing])
def test_time_limit_during_a_publish_silences_no_other_task(
    call_of: Callable[[Publisher, str], Callable[[], None]], publisher: Publisher
) -> None:
    """A thread that is not woken would miss the events of the other tasks of the process."""
    publisher.submit(write("first", TaskState.STARTED))
    for number in count():
        wait_until(partial(sleeps, publisher))

        was_interrupted = interrupted(call_of(publisher, f"interrupted-{number}"), number)

        publisher.submit(write(f"next-{number}", TaskState.STARTED))
        wait_until(partial(publisher._sender.seqs.__contains__, f"next-{number}"))
        if not was_interrupted:
            break
    assert number > 3


def hanging_shard(publisher: Publisher, name: str) -> HangingShard:
    """Let the primary with the bucket of a name hang."""
    return HangingShard(tag_of(name), publisher._sender._store, publisher._sender.patient_store)


@pytest.fixture
def quick_publisher(store: Store) -> Iterator[Publisher]:
    config = replace(store.config, flush_timeout=PATIENCE, min_interval=0.01, retry_interval=0.05)
    publisher = Publisher(Store(config), config, on_cancelled=lambda task_id: None)
    yield publisher
    publisher.close()


def test_events_of_other_primaries_are_published_while_one_hangs(quick_publisher: Publisher, store: Store) -> None:
    shard = hanging_shard(quick_publisher, "silent")
    silent, other = (replace(tracked(f"of-{user}"), user_id=user) for user in ("silent", USER))
    listener = RecordedEvents(store.config.redis_url, USER)
    running = [RunningTask(one, quick_publisher, quick_publisher._config) for one in (silent, other)]
    for task in running:
        quick_publisher.start(task)
    for current in (1, 2):
        for task in running:
            task.current = current
            task.mark_changed()
        wait_until(lambda current=current: [one.current for one in listener.events][-1:] == [current])  # type: ignore[misc]
    for task in running:
        task.finish(TaskState.SUCCESS)
    for one in (silent, other):
        waits = replace(one, task_id=f"waits-{one.user_id}")
        quick_publisher.submit_ending(Ending(waits.task_id, TaskState.REVOKED, tracked=waits))
    wait_until(lambda: [one.state for one in listener.events][-2:] == [TaskState.SUCCESS, TaskState.REVOKED])

    assert not quick_publisher._breaker.is_open
    assert store.tasks("silent") == []
    shard.hangs = False
    assert quick_publisher.flush()
    assert {one.task_id: one.state for one in store.tasks("silent")} == {
        "of-silent": TaskState.SUCCESS,
        "waits-silent": TaskState.REVOKED,
    }


def test_newest_event_is_published_once_the_primary_answers(quick_publisher: Publisher, store: Store) -> None:
    shard = hanging_shard(quick_publisher, USER)
    listener = RecordedEvents(store.config.redis_url, USER)
    for state in (TaskState.STARTED, TaskState.PROGRESS, TaskState.SUCCESS):
        refused = shard.refused
        quick_publisher.submit(write("task", state))
        wait_until(lambda refused=refused: shard.refused > refused)  # type: ignore[misc]

    shard.hangs = False
    assert quick_publisher.flush()
    assert [one.state for one in listener.events] == [TaskState.SUCCESS]


def test_owner_on_a_primary_that_hangs_is_stored_later(quick_publisher: Publisher, store: Store) -> None:
    shard = hanging_shard(quick_publisher, "task")
    quick_publisher.publish_now([write("task", TaskState.STARTED)])
    assert [one.state for one in store.tasks(USER)] == [TaskState.STARTED]
    quick_publisher.submit(write("task", TaskState.SUCCESS))
    wait_until(lambda: [one.state for one in store.tasks(USER)] == [TaskState.SUCCESS])

    shard.hangs = False
    assert quick_publisher.flush()
    assert store.task("task").state is TaskState.SUCCESS


def test_end_does_not_wait_for_the_owner_of_a_task_with_a_known_user(quick_publisher: Publisher, store: Store) -> None:
    """The parent of a worker publishes it: the process of the task was killed, or the task was revoked, or expired."""
    names = {"known": USER, "unknown": None}
    store.publish([write(name, TaskState.PENDING) for name in names])
    shards = [hanging_shard(quick_publisher, name) for name in names]
    assert tag_of(USER) not in map(tag_of, names)
    for name, user_id in names.items():
        quick_publisher.submit_ending(Ending(name, TaskState.REVOKED, notifies_end=True, user_id=user_id))

    wait_until(lambda: store.task("known").state is TaskState.REVOKED)
    wait_until(lambda: [item.data["task_id"] for item in store.inbox(USER)] == ["known"])
    assert store.task("unknown").state is TaskState.PENDING
    for shard in shards:
        shard.hangs = False
    assert quick_publisher.flush()
    assert store.task("unknown").state is TaskState.REVOKED
    assert [item.data["task_id"] for item in store.inbox(USER)] == ["unknown", "known"]


def test_retry_of_a_primary_that_hangs_tries_only_some_of_its_tasks(
    quick_publisher: Publisher, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them would delay the events of other primaries."""
    sent = note_sent(quick_publisher, monkeypatch)
    shard = hanging_shard(quick_publisher, "silent")
    for number in range(500):
        task = replace(tracked(f"task-{number}"), user_id="silent")
        quick_publisher.submit(task.write(task.event(TaskState.STARTED), task_ttl=60))
    wait_until(lambda: len(quick_publisher._parked._writes) >= 400 and not quick_publisher._schedule)
    sent.clear()
    wait_until(lambda: len(sent) > 5)
    assert max(map(len, sent)) <= 100
    assert len(set().union(*sent)) > 100  # not always the same ones

    shard.hangs = False
    assert quick_publisher.flush()
    assert len(store.tasks("silent", limit=1_000)) == 500
