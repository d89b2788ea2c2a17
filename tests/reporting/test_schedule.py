"""When progress leaves: at the rate of its task, with whatever else leaves at that time."""

from __future__ import annotations

from typing import Any

import pytest

from jobpush.config import Config
from jobpush.events import TaskState
from jobpush.reporting.running_task import RunningTask
from jobpush.reporting.schedule import MAX_HOLD, Schedule

from .test_publisher import tracked, write

INTERVAL = 0.2


class Silent:
    """A publisher that does nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


def task(name: str = "task") -> RunningTask:
    return RunningTask(tracked(name), Silent(), Config())


def departures(schedule: Schedule, tasks: list[RunningTask], *, others: bool) -> dict[str, list[float]]:
    """Report all the time for three seconds, and send whatever is due; return when progress of each task left."""
    left: dict[str, list[float]] = {one.tracked.task_id: [] for one in tasks}
    for step in range(3_000):
        now = step / 1_000
        for one in tasks:
            schedule.add_changed(one)
        if others:
            schedule.outbox.add(write("other", TaskState.STARTED))
        if schedule.due_at(is_urgent=False) <= now:
            for one in schedule.take(now, is_urgent=False).changed:
                left[one.tracked.task_id].append(now)
    return left


@pytest.mark.parametrize("others", [False, True])
def test_progress_of_one_task_keeps_its_interval(others: bool) -> None:
    """However often the task reports, and whatever else is published meanwhile."""
    times = departures(Schedule(INTERVAL), [task()], others=others)["task"]

    gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    assert min(gaps) >= INTERVAL - 1e-9
    assert len(times) == pytest.approx(3 / INTERVAL, abs=1)


def test_each_task_has_its_own_interval() -> None:
    left = departures(Schedule(INTERVAL), [task("one"), task("two")], others=False)

    assert all(len(times) == pytest.approx(3 / INTERVAL, abs=1) for times in left.values())


def test_progress_waits_briefly_for_progress_of_other_tasks() -> None:
    schedule = Schedule(INTERVAL)
    first, second = task("first"), task("second")
    schedule.add_changed(first)
    assert schedule.take(0.0, is_urgent=False).changed == [first]

    due_at = schedule.add_changed(second)

    assert due_at == schedule.due_at(is_urgent=False) == MAX_HOLD
    assert schedule.take(MAX_HOLD, is_urgent=False).changed == [second]


def test_urgent_state_takes_waiting_progress_along() -> None:
    schedule = Schedule(INTERVAL)
    one = task()
    one.due_at = 100.0
    schedule.add_changed(one)
    schedule.add_workflow(("42", "workflow"), 100.0)
    schedule.add_log(one, 100.0)
    assert schedule.due_at(is_urgent=False) == 100.0

    batch = schedule.take(0.0, is_urgent=True)

    assert (batch.changed, batch.workflows, batch.logs) == ([one], [("42", "workflow")], [one])
    assert not schedule
