"""Pools that run tasks in the worker's own process, and short-lived child processes."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from celery.exceptions import TaskRevokedError

from jobpush.events import TaskState
from tests.celery_site.site import PATIENT, Site, as_broker
from tests.effort import thorough

if TYPE_CHECKING:
    from pathlib import Path

    from jobpush.processes.embedded import EmbeddedRedis


POOLS = [
    ("-P", "solo"),
    ("-P", "threads", "-c", "2"),
    pytest.param(("-P", "eventlet", "-c", "2"), marks=thorough),
    pytest.param(("-c", "1", "--max-tasks-per-child=1"), marks=thorough),
]


@pytest.mark.parametrize("pool", POOLS, ids=" ".join)
def test_every_state_and_a_cancel_work_in_each_pool(own_site: Site, user: str, pool: tuple[str, ...]) -> None:
    own_site.start_worker(*pool)
    listener = own_site.listen(user)

    ends = own_site.delay("encode", user, "cat.mov")
    listener.until_final(ends)
    waits = own_site.delay("waits", user)
    listener.until_state(TaskState.PROGRESS, waits)
    own_site.jobpush.cancel(waits)
    listener.until_final(waits)
    retries = own_site.delay("retries", user, 1)
    listener.until_final(retries)

    assert listener.states(ends) == ["PENDING", "STARTED", "PROGRESS", "SUCCESS"]
    assert listener.states(waits) == ["PENDING", "STARTED", "PROGRESS", "REVOKED"]
    assert listener.states(retries) == [
        *("PENDING", "STARTED", "PROGRESS", "RETRY"),
        *("STARTED", "PROGRESS", "SUCCESS"),
    ]


def test_waiting_for_the_result_of_a_cancelled_task_raises(
    redis_server: EmbeddedRedis, user: str, tmp_path: Path
) -> None:
    backend = as_broker(redis_server.url)
    with closing(Site(redis_server, redis_server, tmp_path, backend_url=backend, **PATIENT)) as site:
        site.start_worker("-c", "1")
        listener = site.listen(user)
        task_id = site.delay("waits", user)
        listener.until_state(TaskState.PROGRESS, task_id)

        site.jobpush.cancel(task_id)

        with pytest.raises(TaskRevokedError):
            site.app.AsyncResult(task_id).get(timeout=30)
