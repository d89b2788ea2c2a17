"""The tasks of the fault tests, defined identically in the test process and in real workers."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import threading
import time
from pathlib import Path
from typing import Any

from celery import Celery

from jobpush import JobPush, progress


def make_app(*, broker_url: str, **settings: Any) -> tuple[Celery, JobPush]:
    """
    Return a Celery app with all tasks, and its JobPush.

    Args:
        broker_url: Broker of the tasks; it has no faults.
        settings: Settings of jobpush.
    """
    app = Celery("faults", broker=broker_url, set_as_current=False)
    app.conf.update(
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_transport_options={
            "visibility_timeout": 5,
            # By default kombu looks only every 100 seconds for messages to redeliver.
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
        },
    )
    jobpush = JobPush(app, **settings)
    add_tasks(app, jobpush)
    return app, jobpush


class Unprintable:
    """An object whose ``str()`` raises an exception that ``except Exception`` does not catch."""

    def __str__(self) -> str:
        raise SystemExit("not caught by except Exception")


def end_thread(thread: threading.Thread) -> None:
    """Raise ``SystemExit`` in a thread, which ends it silently."""
    assert thread.ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))


class SharedCounter:
    """A counter in a shared file: one process increments it, another reads it, without locks."""

    def __init__(self, path: Path) -> None:
        with path.open("a+b") as file:
            if file.tell() < 8:
                file.truncate(8)
            self._memory = mmap.mmap(file.fileno(), 8)

    @property
    def value(self) -> int:
        """The current count."""
        number: int = struct.unpack_from("q", self._memory)[0]
        return number

    @value.setter
    def value(self, number: int) -> None:
        struct.pack_into("q", self._memory, 0, number)


def add_tasks(app: Celery, jobpush: JobPush) -> None:
    """Register the tasks. A message header names the user."""

    def task(name: str, **options: Any) -> Any:
        return lambda function: app.task(name=name, shared=False, **options)(jobpush.track()(function))

    @task("works")
    def works(steps: int, pause: float) -> None:
        for _ in progress.iter(range(steps), message="working"):
            time.sleep(pause)

    @task("works_acking_late", acks_late=True, reject_on_worker_lost=True)
    def works_acking_late(steps: int, pause: float) -> None:
        for _ in progress.iter(range(steps), message="working"):
            time.sleep(pause)

    @task("runs_until")
    def runs_until(path: str, ballast: str = "") -> None:
        """Report progress a thousand times a second until a file exists, and count the reports."""
        count = SharedCounter(Path(f"{path}.count-{os.getpid()}"))
        for number in range(1, 10_000_000):
            progress.update(number, message="running", ballast=ballast)
            count.value = number
            time.sleep(0.001)
            if number % 50 == 0 and Path(path).exists():
                return

    @task("updates_twice_a_second")
    def updates_twice_a_second(path: str) -> None:
        """Report progress twice a second until a file exists."""
        for number in range(1, 1_000_000):
            progress.update(number, message="running")
            time.sleep(0.5)
            if Path(path).exists():
                return

    @task("kills_publisher")
    def kills_publisher(path: str) -> None:
        """End the publisher thread repeatedly, at arbitrary points, until a file exists."""
        for number in range(1, 1_000_000):
            progress.update(number, message="running")
            for thread in threading.enumerate():
                if thread.name == "jobpush-publisher" and number % 20 == 0:
                    end_thread(thread)
            time.sleep(0.01)
            if Path(path).exists():
                return

    @task("reports_unprintable_message")
    def reports_unprintable_message() -> None:
        """Report a message whose ``str()`` raises, then continue like other tasks."""
        progress.update(1, total=3, message=Unprintable())  # type: ignore[arg-type]
        time.sleep(0.5)
        for number in range(2, 4):
            progress.update(number, total=3, message="fine again")
            time.sleep(0.2)

    @task("exits")
    def exits() -> None:
        """End the process at once, without flushing anything."""
        progress.update(1, total=2)
        os._exit(0)
