"""The tasks of the lifecycle tests, identical for all versions, pools and brokers."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from celery import Celery
from celery.exceptions import Ignore, Reject

from jobpush import JobPush, progress
from jobpush.queues.celery.registry import runtimes


def make_app(
    *, broker_url: str, backend_url: str | None, queue: str, conf: dict[str, Any], **settings: Any
) -> tuple[Celery, JobPush]:
    """
    Return a Celery app with all tasks, and its JobPush.

    Args:
        broker_url: URL of the broker.
        backend_url: URL of the result backend; ``None``: no results.
        queue: The default queue.
        conf: Additional settings of Celery.
        settings: Settings of jobpush.
    """
    app = Celery("lifecycle", broker=broker_url, backend=backend_url, set_as_current=False)
    app.conf.update(
        task_default_queue=queue,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        **conf,
    )
    jobpush = JobPush(app, **settings)
    add_tasks(app, jobpush)
    return app, jobpush


def add_tasks(app: Celery, jobpush: JobPush) -> None:
    """Register the tasks. A message header names the user."""

    def task(name: str, **options: Any) -> Any:
        return lambda function: app.task(name=name, shared=False, **options)(jobpush.track()(function))

    @task("succeeds")
    def succeeds() -> str:
        progress.update(1, total=1)
        return "done"

    @task("applies")
    def applies(path: str) -> None:
        progress.update(1, total=2)
        Path(path).write_text(succeeds.apply().id)

    @task("raises")
    def raises() -> None:
        progress.update(1, total=2)
        raise ValueError("no such file")

    @task("retries", bind=True, max_retries=5)
    def retries(self: Any, failures: int, countdown: float = 0) -> None:
        progress.update(1, total=2)
        if self.request.retries < failures:
            raise self.retry(exc=OSError("disk is busy"), countdown=countdown)

    @task("autoretries", autoretry_for=(OSError,), max_retries=1, retry_backoff=False, default_retry_delay=0)
    def autoretries() -> None:
        progress.update(1, total=2)
        raise OSError("disk is full")

    @task("ignores")
    def ignores() -> None:
        progress.update(1, total=2)
        raise Ignore

    @task("stores_its_failure", bind=True)
    def stores_its_failure(self: Any) -> None:
        progress.update(1, total=2)
        self.update_state(state="FAILURE", meta={"exc_type": "ValueError", "exc_message": ["bad"], "exc_module": None})
        raise Ignore

    @task("rejects")
    def rejects() -> None:
        progress.update(1, total=2)
        raise Reject("not for me", requeue=False)

    @task("rejects_once", bind=True, acks_late=True)
    def rejects_once(self: Any) -> None:
        """Reject and requeue the message once; succeed after the redelivery."""
        progress.update(1, total=2)
        if not self.request.delivery_info["redelivered"]:
            raise Reject("busy", requeue=True)

    @task("exits")
    def exits() -> None:
        progress.update(1, total=2)
        sys.exit(3)

    @task("swallows", acks_late=True)
    def swallows() -> None:
        """Fail as a task that has used up the memory."""
        progress.update(1, total=2)
        raise MemoryError("too large")

    # On a busy machine, progress must be published before the limit, and the limit must act before the task ends.
    @task("soft_limited", soft_time_limit=2.0)
    def soft_limited() -> None:
        progress.update(1, total=2)
        time.sleep(3.5)

    @task("hard_limited", time_limit=2.0)
    def hard_limited() -> None:
        progress.update(1, total=2)
        time.sleep(3.5)

    @task("dies")
    def dies() -> None:
        """Kill the process."""
        progress.update(1, total=2)
        _die()

    @task("dies_acking_late", acks_late=True)
    def dies_acking_late() -> None:
        progress.update(1, total=2)
        _die()

    @task("dies_once", acks_late=True, reject_on_worker_lost=True)
    def dies_once(path: str) -> None:
        """Kill the process once; succeed after the redelivery."""
        progress.update(1, total=2)
        if not Path(path).exists():
            Path(path).touch()
            _die()

    @task("dies_once_and_tries_again", retry_on_worker_lost=True, default_retry_delay=0)
    def dies_once_and_tries_again(path: str) -> None:
        progress.update(1, total=2)
        if not Path(path).exists():
            Path(path).touch()
            _die()

    @task("waits_for")
    def waits_for(path: str, cleaned_up: str | None = None) -> None:
        """Run until a file exists, ignoring cancels; create another file at the end."""
        progress.update(1, total=2)
        try:
            _wait_for(path)
        finally:
            if cleaned_up is not None:
                Path(cleaned_up).touch()

    @task("waits_acking_late", acks_late=True)
    def waits_acking_late(path: str) -> None:
        progress.update(1, total=2)
        _wait_for(path)

    @task("works")
    def works(seconds: float) -> None:
        _work(seconds)

    @task("works_acking_late", acks_late=True, reject_on_worker_lost=True)
    def works_acking_late(seconds: float) -> None:
        _work(seconds)

    @task("cooperates")
    def cooperates() -> None:
        """Run until cancelled."""
        while True:
            progress.update(1, total=2)
            time.sleep(0.01)

    @task("hogs")
    def hogs(seconds: int) -> None:
        """Block the whole process, as C code does that holds the GIL."""
        progress.update(1, total=2)
        _flush_progress()
        ctypes.PyDLL(None).sleep(seconds)

    @task("touches")
    def touches(path: str) -> None:
        Path(path).touch()

    @task("replaced", bind=True)
    def replaced(self: Any, reports_progress: bool) -> None:
        if reports_progress:
            progress.update(1, total=2)
        raise self.replace(succeeds.si())


def _work(seconds: float) -> None:
    steps = max(1, round(seconds / 0.02))
    for _ in progress.iter(range(steps)):
        time.sleep(0.02)


def _flush_progress() -> None:
    for runtime in runtimes():
        runtime.flush()


def _die() -> None:
    _flush_progress()
    time.sleep(0.2)  # so that the child has reported its task to the parent before it dies
    os.kill(os.getpid(), signal.SIGKILL)


def _wait_for(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.01)
