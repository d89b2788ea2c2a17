"""What waits for Redis: in order while it answers, bounded while it does not."""

from __future__ import annotations

from typing import Any

import pytest

from jobpush.events import TaskState
from jobpush.reporting import outbox as outbox_module
from jobpush.reporting.identity import TaskIdentity
from jobpush.reporting.outbox import Outbox
from jobpush.reporting.records import Ending, StageDurations
from jobpush.store import Membership, TaskWrite


def write(state: TaskState, task_id: str = "one", **values: Any) -> TaskWrite:
    task = TaskIdentity(task_id, "42", "encode", "Encode", created_at=1.0, **values)
    return task.write(task.event(state), task_ttl=60)


def states(writes: list[TaskWrite]) -> list[str]:
    return [f"{write.event.task_id} {write.event.state}" for write in writes]


def test_newer_progress_replaces_only_older_progress() -> None:
    outbox = Outbox()

    for state in ("STARTED", "PROGRESS", "PROGRESS", "RETRY", "STARTED", "PROGRESS", "SUCCESS"):
        outbox.add(write(TaskState(state)))

    assert states(outbox.take(100).writes) == [
        *("one STARTED", "one PROGRESS", "one RETRY"),
        *("one STARTED", "one PROGRESS", "one SUCCESS"),
    ]
    assert not outbox


def test_only_the_newest_state_is_kept_during_an_outage() -> None:
    outbox = Outbox()

    outbox.add(write(TaskState.STARTED))
    outbox.add(write(TaskState.SUCCESS), only_newest=True)

    assert states(outbox.take(100).writes) == ["one SUCCESS"]


def test_returned_state_is_replaced_by_a_newer_one() -> None:
    outbox = Outbox()
    outbox.add(write(TaskState.SUCCESS, "one"))
    outbox.add(write(TaskState.STARTED, "three"))

    outbox.put_back(
        [write(TaskState.STARTED, "one"), write(TaskState.STARTED, "two"), write(TaskState.PROGRESS, "two")], []
    )

    assert sorted(states(outbox.take(100).writes)) == ["one SUCCESS", "three STARTED", "two PROGRESS"]


def test_workflow_members_are_published_before_any_member_ends() -> None:
    outbox = Outbox()
    for state, task_id in (
        *((TaskState.STARTED, "parent"), (TaskState.PENDING, "child"), (TaskState.SUCCESS, "parent")),
        *((TaskState.STARTED, "child"), (TaskState.PENDING, "grandchild"), (TaskState.FAILURE, "child")),
    ):
        outbox.add(write(state, task_id, membership=Membership("0:1")), only_newest=True)

    for _ in range(3):  # Redis is tried, and is still away
        outbox.put_back(outbox.take(100).writes, [])

    assert states(outbox.take(100).writes) == [
        *("child PENDING", "grandchild PENDING"),
        *("parent SUCCESS", "child FAILURE"),
    ]


def test_ends_are_published_after_all_starts() -> None:
    outbox = Outbox()
    for number in range(3):
        outbox.add(write(TaskState.PENDING, f"member-{number}", membership=Membership("0:3")))
    outbox.add_ending(Ending("member-2", TaskState.REVOKED))

    assert not outbox.take(2).endings
    assert [ending.task_id for ending in outbox.take(2).endings] == ["member-2"]


def test_returned_states_keep_newer_ones_separate() -> None:
    outbox = Outbox()
    for task_id in ("one", "two"):
        outbox.add(write(TaskState.STARTED, task_id))
    taken = outbox.take(100).writes
    for task_id in ("three", "one"):
        outbox.add(write(TaskState.SUCCESS, task_id))

    outbox.put_back(taken, [])

    assert states(outbox.take(100).writes) == ["two STARTED", "three SUCCESS", "one SUCCESS"]


def test_oldest_state_is_dropped_when_the_outbox_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "MAX_TASKS", 2)
    outbox = Outbox()

    for task_id in ("one", "two", "three"):
        outbox.add(write(TaskState.SUCCESS, task_id))
        outbox.add_ending(Ending(task_id, TaskState.FAILURE))

    batch = outbox.take(100)
    assert states(batch.writes) == ["two SUCCESS", "three SUCCESS"]
    assert [ending.task_id for ending in batch.endings] == ["two", "three"]
    assert outbox.dropped == 2


def test_first_published_end_counts() -> None:
    outbox = Outbox()

    outbox.add_ending(Ending("one", TaskState.REVOKED))
    outbox.add_ending(Ending("one", TaskState.FAILURE, "later"))

    assert outbox.take(100).endings == [Ending("one", TaskState.REVOKED)]


def test_retry_is_replaced_by_a_final_end() -> None:
    outbox = Outbox()
    outbox.add_ending(Ending("one", TaskState.RETRY))
    outbox.add_ending(Ending("one", TaskState.FAILURE))
    taken = outbox.take(100).endings
    outbox.add_ending(Ending("one", TaskState.REVOKED))

    outbox.put_back([], taken)

    assert taken == [Ending("one", TaskState.FAILURE)]
    assert outbox.take(100).endings == taken


def test_take_is_bounded_and_takes_ends_last() -> None:
    outbox = Outbox()
    outbox.add_ending(Ending("four", TaskState.REVOKED))
    for task_id in ("one", "two", "three"):
        outbox.add(write(TaskState.STARTED, task_id))
    outbox.add_durations(StageDurations("encode", {"probing": 1.0}))

    first, second = outbox.take(2), outbox.take(2)

    assert (states(first.writes), first.endings, len(first.durations)) == (["one STARTED", "two STARTED"], [], 1)
    assert (states(second.writes), len(second.endings), second.durations) == (["three STARTED"], 1, [])
