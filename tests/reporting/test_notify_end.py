"""The end of a task in the inbox of its user: ``track(notify="end")``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jobpush import ConfigurationError, progress
from jobpush.events import TaskState
from jobpush.reporting.publisher import Publisher
from jobpush.reporting.records import Ending
from jobpush.store import Store
from tests.celery_site.site import Eager

from .test_publisher import USER, publisher, tracked

__all__ = ["publisher"]


def inbox(eager: Eager) -> list[Any]:
    eager.jobpush._runtime.publisher.flush()
    return eager.jobpush._runtime.store.inbox(eager.user)


def test_task_end_is_kept_once_with_title_and_link(eager: Eager) -> None:
    def body() -> None:
        progress.update(1, total=2, url="/media/1.mp4")

    last = eager.run(eager.task(title="Encode cat.mov", notify="end")(body))[-1]

    (item,) = inbox(eager)
    assert (item.event, item.title, item.url) == ("jobpush:end", "Encode cat.mov", "/media/1.mp4")
    assert item.data == {"task_id": last.task_id, "state": "SUCCESS", "error": None}


def test_failure_is_kept_with_its_reason_and_without_an_unsafe_link(eager: Eager) -> None:
    def body() -> None:
        progress.update(url="javascript:alert(1)")
        raise ValueError("disk full")

    eager.run(eager.task(notify="end")(body))

    (item,) = inbox(eager)
    assert (item.data["state"], item.data["error"], item.url) == ("FAILURE", "disk full", "")


def test_ends_of_other_tasks_are_not_kept(eager: Eager) -> None:
    eager.run(eager.task()(lambda: None))

    assert inbox(eager) == []


def test_end_reported_by_the_workers_parent_is_kept_once(publisher: Publisher, store: Store) -> None:
    task = tracked("task")
    publisher.publish_now([task.write(task.event(TaskState.PENDING), task_ttl=60)])
    ending = Ending("task", TaskState.FAILURE, "The process that ran the task died", notifies_end=True)

    for _ in range(2):
        publisher.end_now(ending)
    publisher.publish_now([replace(task, notifies_end=True).write(task.event(TaskState.SUCCESS), task_ttl=60)])

    (item,) = store.inbox(USER)
    assert (item.title, item.data["state"]) == ("Encode", "FAILURE")


def test_notify_values_other_than_end_are_refused(eager: Eager) -> None:
    with pytest.raises(ConfigurationError, match="notify must be"):
        eager.jobpush.track(user="user_id", notify="always")
