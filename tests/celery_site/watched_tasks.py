"""The tasks of the tests, defined identically in the test process and in real workers."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

from billiard.exceptions import TimeLimitExceeded
from celery import Celery, chain, group
from celery.exceptions import Ignore, Reject, Retry
from celery.utils.log import get_task_logger

from jobpush import JobPush, progress
from jobpush.reporting.progress import current_progress


class Impolite(Exception):
    """An error whose text must not be shown to users."""


def make_app(
    broker_url: str,
    redis_url: str | None,
    *,
    backend_url: str | None = None,
    visibility_timeout: float = 3_600,
    stops_without_broker: bool = False,
    **settings: Any,
) -> tuple[Celery, JobPush]:
    """
    Return a Celery app with all tasks of the tests, and its JobPush.

    Args:
        broker_url: URL of the broker.
        redis_url: URL of the Redis for events; ``None``: the broker.
        visibility_timeout: Seconds after which the broker redelivers unacknowledged messages.
        stops_without_broker: Whether a worker that loses its broker stops the tasks that it can no longer acknowledge.
        backend_url: URL of the result backend; ``None``: no results.
        settings: Settings of ``JobPush``.
    """
    app = Celery("watched", broker=broker_url, backend=backend_url, set_as_current=False)
    app.conf.update(
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "socket_timeout": 5,
            "visibility_timeout": visibility_timeout,
            # By default kombu looks only every 100 seconds for messages to redeliver.
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
        },
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=stops_without_broker,
    )
    jobpush = JobPush(app, redis_url=redis_url, **settings)
    add_tasks(app, jobpush)
    return app, jobpush


def add_tasks(app: Celery, jobpush: JobPush) -> None:
    """Register the tasks. They are not shared: other apps in the process define their own."""

    def task(name: str, **options: Any) -> Any:
        return app.task(name=name, shared=False, **options)

    @task("encode")
    @jobpush.track(user="user_id", title="Encode {filename}")
    def encode(user_id: str, filename: str, frames: int = 3) -> str:
        for _ in progress.iter(range(frames), message="encoding"):
            pass
        return filename

    @task("logs")
    @jobpush.track(user="user_id", capture=True)
    def logs(user_id: str) -> None:
        progress.log("first")
        get_task_logger("watched").warning("second")
        logging.getLogger("library").error("third")
        progress.log("last", level="debug")

    @task("forks")
    @jobpush.track(user="user_id")
    def forks(user_id: str) -> None:
        progress.update(1, total=100)
        for _ in range(4):
            if (pid := os.fork()) == 0:
                for _ in range(20):
                    progress.advance(1)
                os._exit(0)
            os.waitpid(pid, 0)
        progress.advance(1)

    @task("threads")
    @jobpush.track(user="user_id")
    def threads(user_id: str) -> None:
        progress.update(0, total=4_000)
        with ThreadPoolExecutor(4) as pool:
            for _ in range(4_000):
                pool.submit(progress.advance, 1)

    @task("cleans_up")
    @jobpush.track(user="user_id")
    def cleans_up(user_id: str, path: str) -> None:
        try:
            for _ in progress.iter(range(100_000), total=100_000):
                time.sleep(0.01)
        finally:
            progress.update(message="removing the temporary file")
            Path(path).write_text("cleaned")

    @jobpush.track(user="user_id", title="Above {filename}")
    @task("above", bind=True)
    def above(self: Any, user_id: str, filename: str = "cat.mov") -> None:
        progress.update(1, total=2, message=self.name)

    @task("plain")
    def plain() -> None:
        progress.update(1)

    @task("owned_by_header")
    @jobpush.track()
    def owned_by_header() -> None:
        progress.update(1, total=1)

    @task("returns")
    @jobpush.track(user="user_id", result=True)
    def returns(user_id: str, value: Any) -> Any:
        return value

    @task("fails")
    @jobpush.track(user="user_id", errors={Impolite: "We could not do that"})
    def fails(user_id: str, impolite: bool = False) -> None:
        progress.update(5, total=10)
        raise Impolite("secret") if impolite else ValueError("no such file\nat line 2")

    @task("retries", bind=True, max_retries=5)
    @jobpush.track(user="user_id")
    def retries(self: Any, user_id: str, failures: int, countdown: float = 0) -> None:
        progress.update(self.request.retries + 1, total=10)
        if self.request.retries < failures:
            raise self.retry(exc=OSError("disk is busy"), countdown=countdown)

    @task("autoretries", autoretry_for=(OSError,), max_retries=1, retry_backoff=False, default_retry_delay=0)
    @jobpush.track(user="user_id")
    def autoretries(user_id: str) -> None:
        raise OSError("disk is full")

    @task("ignores")
    @jobpush.track(user="user_id")
    def ignores(user_id: str) -> None:
        progress.update(1, total=2)
        raise Ignore

    @task("rejects")
    @jobpush.track(user="user_id")
    def rejects(user_id: str) -> None:
        raise Reject("no disk here", requeue=False)

    @task("requeues", bind=True, acks_late=True)
    @jobpush.track(user="user_id")
    def requeues(self: Any, user_id: str) -> None:
        """Reject and requeue the message once."""
        if not self.request.delivery_info["redelivered"]:
            raise Reject("busy", requeue=True)

    @task("exits")
    @jobpush.track(user="user_id")
    def exits(user_id: str, text: str | None) -> None:
        sys.exit(text)

    @task("is_replaced", bind=True)
    @jobpush.track(user="user_id")
    def is_replaced(self: Any, user_id: str) -> None:
        raise self.replace(app.tasks["above"].s(user_id))

    @task("late", acks_late=True)
    @jobpush.track(user="user_id")
    def late(user_id: str, path: str) -> None:
        """Run until a file exists; the message is acknowledged at the end."""
        progress.update(1, total=2, pid=os.getpid())
        while not Path(path).exists():
            time.sleep(0.01)

    @task("late_requeued", acks_late=True, reject_on_worker_lost=True)
    @jobpush.track(user="user_id")
    def late_requeued(user_id: str, path: str) -> None:
        progress.update(1, total=2, pid=os.getpid())
        while not Path(path).exists():
            time.sleep(0.01)

    @task("silent_until")
    @jobpush.track(user="user_id")
    def silent_until(user_id: str, path: str) -> None:
        """Report nothing until a file exists."""
        while not Path(path).exists():
            time.sleep(0.01)

    @task("ends_when", bind=True)
    @jobpush.track(user="user_id")
    def ends_when(self: Any, user_id: str, path: str, end: str) -> None:
        """End in the given state once a file exists."""
        while not Path(path).exists():
            time.sleep(0.01)
        if end == "FAILURE":
            raise ValueError("broke")
        if end == "REVOKED":
            raise Ignore("not needed")

    @task("vanishes", bind=True)
    @jobpush.track(user="user_id")
    def vanishes(self: Any, user_id: str, fails: bool = False) -> None:
        """End without publishing anything further."""
        self.request.jobpush_running = None
        if fails:
            raise Retry("later")  # no message is published, so the parent does not know the end either

    @task("waits")
    @jobpush.track(user="user_id")
    def waits(user_id: str) -> None:
        """Run until it is cancelled."""
        try:
            while True:
                progress.update(1, total=2)
                time.sleep(0.01)
        finally:
            current = current_progress()
            if current is not None:
                current.data["cleaned_up"] = True

    @task("reports_until")
    @jobpush.track(user="user_id")
    def reports_until(user_id: str, path: str) -> int:
        """Report progress until a file exists."""
        count = 0
        while not Path(path).exists():
            count += 1
            progress.update(count, total=1_000_000)
            time.sleep(0.005)
        progress.update(1_000_000)
        return count

    @task("touches")
    @jobpush.track(user="user_id")
    def touches(user_id: str, path: str) -> None:
        Path(path).touch()

    @task("spawns")
    @jobpush.track(user="user_id")
    def spawns(user_id: str) -> None:
        app.tasks["owned_by_header"].delay()

    @task("calls")
    @jobpush.track(user="user_id")
    def calls(user_id: str) -> None:
        """Call another task as a function."""
        app.tasks["part_spawns"](["owned_by_header"])

    @task("spawns_in_a_thread")
    @jobpush.track(user="user_id")
    def spawns_in_a_thread(user_id: str) -> None:
        context = copy_context()
        thread = threading.Thread(target=lambda: context.run(app.tasks["owned_by_header"].delay))
        thread.start()
        thread.join()

    @task("errback")
    def errback(request: Any, exc: Any, traceback: Any) -> None:
        """An errback that Celery calls as a function, because it has three arguments."""
        app.tasks["owned_by_header"].delay()

    @task("stubborn")
    @jobpush.track(user="user_id")
    def stubborn(user_id: str) -> None:
        """Ignore cancels and keep running."""
        progress.update(1, total=2, pid=os.getpid())
        while True:
            time.sleep(0.01)

    @task("hogs")
    @jobpush.track(user="user_id")
    def hogs(user_id: str) -> None:
        """Block the whole process, as C code does that holds the GIL."""
        progress.update(1, total=2)
        time.sleep(0.3)  # until the progress is published
        ctypes.PyDLL(None).sleep(3600)

    @task("soft_limited", soft_time_limit=3)
    @jobpush.track(user="user_id")
    def soft_limited(user_id: str) -> None:
        time.sleep(60)

    @task("reports")
    @jobpush.track(user="user_id")
    def reports(user_id: str, steps: list[dict[str, Any]]) -> None:
        for step in steps:
            progress.update(**step)

    @task("hard_limited", time_limit=3)
    @jobpush.track(user="user_id", errors={TimeLimitExceeded: "It took too long"})
    def hard_limited(user_id: str) -> None:
        progress.update(1, total=2)
        time.sleep(60)

    @task("part", bind=True, max_retries=3)
    def part(self: Any, *results: Any, failures: int = 0, error: str | None = None, path: str | None = None) -> str:
        """A task that is only tracked as a member of a workflow."""
        progress.update(1, total=2)
        if path is not None:
            Path(path).touch()
        if self.request.retries < failures:
            raise self.retry(exc=OSError("disk is busy"), countdown=0)
        if error is not None:
            raise ValueError(error)
        return str(self.request.id)

    @task("part_waits")
    def part_waits() -> None:
        while True:
            progress.update(1, total=2)
            time.sleep(0.01)

    @task("part_spawns")
    def part_spawns(names: list[str]) -> None:
        for name in names:
            app.tasks[name].delay()

    @task("spawns_for")
    def spawns_for(user_id: str) -> None:
        app.tasks["encode"].delay(user_id, "cat.mov")

    @task("replaced_by_owned", bind=True)
    @jobpush.track(user="user_id")
    def replaced_by_owned(self: Any, user_id: str) -> None:
        raise self.replace(app.tasks["owned_by_header"].si())

    @task("sends")
    @jobpush.track()
    def sends(body: str) -> None:
        """A task whose argument has the name of a chord's body."""

    @task("owned_by_argument")
    @jobpush.track(user="user_id")
    def owned_by_argument(*results: object, user_id: str | None = None) -> None:
        pass

    @task("replaced_by", bind=True)
    @jobpush.track(user="user_id")
    def replaced_by(self: Any, user_id: str, kind: str) -> None:
        untracked, owned = app.tasks["part"].si, app.tasks["owned_by_header"].si
        canvases = {
            "task": untracked(),
            "failing": untracked(error="broke"),
            "retrying": untracked(failures=1),
            "group": group(owned(), owned()),
            "chain": chain(untracked(), untracked()),
            "owned chain": chain(owned(), owned()),
            "task of nobody": app.tasks["owned_by_argument"].si(),
            "chain of nobody": chain(owned(), app.tasks["owned_by_argument"].s()),
            "chain of the user": chain(owned(), app.tasks["owned_by_argument"].s(user_id=user_id)),
            "chain with a body": chain(owned(), app.tasks["sends"].si(body="a letter")),
        }
        default = owned()  # a plain signature, no canvas
        raise self.replace(canvases.get(kind, default))

    @task("part_replaced", bind=True)
    def part_replaced(self: Any, kind: str) -> None:
        new = app.tasks["part"].si
        canvases = {
            "task": new(),
            "chain": chain(new(), new()),
            "group": group(new(), new()),
            "fails": new(error="broke"),
        }
        raise self.replace(canvases[kind])

    @task("counts")
    @jobpush.track(user="user_id")
    def counts(user_id: str, to: int) -> None:
        update = progress.update
        for number in range(1, to + 1):
            update(number, total=to)
