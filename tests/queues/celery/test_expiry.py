"""Tasks that expire while they wait become REVOKED at that time, with or without a worker."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from jobpush.events import TaskState
from jobpush.queues.celery import expiry
from jobpush.queues.celery.expiry import EXPIRED, ExpiryTimer
from tests.celery_site.site import Eager


@pytest.mark.parametrize(
    "expires", [0.2, 1, timezone.utc, None], ids=["seconds", "integer", "time", "time with another offset"]
)
@pytest.mark.parametrize("queue", ["celery", "nobody"])
def test_task_that_expires_in_a_queue_without_a_worker_is_revoked(eager: Eager, expires: Any, queue: str) -> None:
    if not isinstance(expires, (int, float)):
        expires = datetime.now(expires or timezone(timedelta(hours=5))) + timedelta(seconds=0.5)
    task_id = eager.app.tasks["encode"].apply_async((eager.user, "cat.mov"), expires=expires, queue=queue).id

    last = eager.listener.until_final(task_id)

    assert (last.state, last.error) == (TaskState.REVOKED, EXPIRED)


def test_message_of_protocol_1_expires_too(eager: Eager) -> None:
    eager.app.conf.task_protocol = 1

    task_id = eager.app.tasks["encode"].apply_async((eager.user, "cat.mov"), expires=0.2).id

    assert eager.listener.until_final(task_id).state is TaskState.REVOKED


def test_started_task_does_not_expire(eager: Eager) -> None:
    store = eager.jobpush._runtime.store
    expiring, other = (
        eager.app.tasks["encode"].apply_async((eager.user, name), expires=seconds).id
        for name, seconds in (("runs", 0.5), ("waits", 0.6))
    )
    tracked = store.task(expiring)
    assert tracked.state is TaskState.PENDING
    from jobpush.reporting.identity import TaskIdentity

    identity = TaskIdentity(expiring, eager.user, "encode", "Encode runs", created_at=tracked.created_at, delivery="d")
    store.publish([identity.write(identity.event(TaskState.STARTED), task_ttl=60)])

    eager.listener.until_final(other)

    assert store.task(expiring).state is TaskState.STARTED


def test_number_of_watched_expiries_is_bounded(eager: Eager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "MAX_EXPIRING", 2)
    timer = ExpiryTimer(eager.jobpush._runtime)
    for number in range(3):
        timer.add(f"task-{number}", "42", time.time() + 1_000)

    assert len(timer._expiring) == 2
    timer.reset_after_fork()
    assert not timer._expiring
