"""One configuration with its worker, and a user who watches the tasks."""

from __future__ import annotations

import gc
import itertools
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from celery import Celery, Signature

from jobpush import JobPush
from jobpush.events import TaskEvent, TaskState
from jobpush.processes.child import ChildProcess
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.queues.celery.workflow import WORKFLOW
from jobpush.testing import PATIENCE, RecordedEvents
from tests.celery_site.site import as_broker
from tests.waiting import wait_until

from .configurations import Configuration
from .tasks import make_app
from .watcher import Watcher

_ROOT = Path(__file__).parents[2]
#: The one user of a stand.
USER = "42"
#: Seconds without a sign of life after which a worker counts as dead; a busy machine may hold one up for a second.
LOST_AFTER = 3.0
#: Seconds within which a task can be cancelled for sure before its time has come.
_SOME_TIME = 4
#: Options of a worker by its pool: as many tasks at once as the rows need.
_POOLS = {
    "prefork": ["-P", "prefork", "-c", "2"],
    "threads": ["-P", "threads", "-c", "2"],
    "gevent": ["-P", "gevent", "-c", "10"],
    "solo": ["-P", "solo"],
}


class Stand:
    """A configuration that is up: publish tasks, see what their user sees."""

    def __init__(self, configuration: Configuration, redis: EmbeddedRedis, amqp_url: str | None, folder: Path) -> None:
        """
        Args:
            configuration: What to run on.
            redis: An empty one for the events, and for tasks and results if the configuration uses it.
            amqp_url: Address of RabbitMQ, where that is the broker.
            folder: For logs, and for the files that tasks and tests wait for.
        """
        self.configuration, self.folder = configuration, folder
        self.redis = redis
        self.app: Celery
        self.jobpush: JobPush
        self._settings = {
            "broker_url": amqp_url or as_broker(redis.url),
            "backend_url": as_broker(redis.url) if configuration.backend == "results" else None,
            "queue": str(configuration),
            "conf": {},
            "redis_url": redis.url,
            "cancel_grace": 0.3,
            "lost_after": LOST_AFTER,
            "publish_timeout": PATIENCE,  # a task may wait, but its events must not be skipped
        }
        self._is_on_redis = amqp_url is None
        self.app, self.jobpush = make_app(**self._settings)
        if configuration.backend == "results":
            # Else each result of a canvas asks for the backend when it is given up, which is after the end of Redis.
            self.app.backend.result_consumer.cancel_for = lambda task_id: None
        self.recorded = RecordedEvents(redis.url, USER)
        self._children: list[ChildProcess] = []
        self._watcher: Watcher | None = None
        #: Files that only a task makes which must not run.
        self.forbidden: list[Path] = []
        #: When all has come that :meth:`some_time` was given for, in monotonic seconds.
        self._quiet_after = 0.0
        self._paths = (folder / f"file-{number}" for number in range(10_000))
        try:
            self._begin()
        except BaseException:
            self.close()  # nobody else can
            raise

    def start_worker(self, queue: str = "", *, restores: bool = False) -> ChildProcess:
        """
        Start a worker on a queue that :meth:`delay` is given; without one, on that of all other tasks.

        Args:
            queue: Its name.
            restores: Whether a worker on Redis takes what was not acknowledged within two seconds for given up. That
                is less than Celery itself may need to find out that one of its children died.
        """
        name = self._hostname(queue)
        queues = ["-Q", "-".join(filter(None, [str(self.configuration), queue]))]
        options = [*_POOLS[self.configuration.pool], *queues, "-n", name]
        log = self.folder / f"worker-{len(self._children)}.log"
        settings = self._settings
        if restores and self._is_on_redis:
            settings = {**settings, "conf": {"broker_transport_options": redis_options(visibility_timeout=2)}}
        worker = start_worker(self.configuration.python, settings, options, log)
        self._children.append(worker)
        return worker

    def read_queue(self, name: str) -> None:
        """Let the worker read another queue too."""
        queue = f"{self.configuration}-{name}"
        self.app.control.add_consumer(queue, destination=[self._hostname()], reply=True, timeout=PATIENCE, limit=1)

    def path(self) -> Path:
        """A file that is not there yet."""
        return next(self._paths)

    def forbidden_path(self) -> Path:
        """A file that there must never be, made by a task that must not run."""
        self.forbidden.append(self.path())
        return self.forbidden[-1]

    def some_time(self) -> int:
        """Seconds until a task would run that is cancelled before; what comes of it then is looked at in the end."""
        self._quiet_after = time.monotonic() + _SOME_TIME + 1.0  # it waits from a moment later on
        return _SOME_TIME

    def delay(self, name: str, *args: Any, queue: str | None = None, **options: Any) -> str:
        """Publish a task of the user's, to a queue that is not read yet if one is named; its id."""
        if queue:
            options["queue"] = f"{self.configuration}-{queue}"
        headers = {"jobpush_user": USER}
        arguments = [str(argument) if isinstance(argument, Path) else argument for argument in args]
        return str(self.app.send_task(name, arguments, headers=headers, **options).id)

    def task(self, name: str, *args: Any, **options: Any) -> Signature:
        """A task as a part of a canvas."""
        arguments = tuple(str(argument) if isinstance(argument, Path) else argument for argument in args)
        return self.app.signature(name, arguments, immutable=True, options=options)

    def workflow(self, canvas: Signature) -> str:
        """Publish a canvas as a workflow of the user's; the id of its bar."""
        workflow = self.jobpush.track_workflow(canvas, USER)
        workflow.delay()
        return workflow.task_id

    def until(self, task_id: str, state: TaskState) -> TaskEvent:
        """Wait until the user sees a task in a state."""
        return self.recorded.until_state(state, task_id)

    def until_exists(self, path: Path) -> None:
        """Wait until a task has made a file."""
        wait_until(path.exists, path.name)

    def assert_story(self, task_id: str, expected: str) -> TaskEvent:
        """
        Wait for the end of a task, and make sure of all that the user saw until then.

        Args:
            task_id: Which task.
            expected: The states, attempts separated by ``|``. RECEIVED is left out: it is refused where STARTED came
                first. So is what repeats itself.

        Returns:
            The last event.
        """
        attempts = expected.count("|") + 1

        def is_last(event: TaskEvent) -> bool:
            return event.task_id == task_id and event.state.is_final and event.attempt >= attempts

        if not any(is_last(event) for event in self.recorded.events):
            self.recorded.until(is_last)
        events = self.recorded.of(task_id)
        assert story(events) == expected
        return events[-1]

    def assert_nothing_strange_was_seen(self) -> None:
        """Make sure of what is true of all tasks that the user has seen, whatever became of them."""
        time.sleep(max(0.0, self._quiet_after - time.monotonic()))
        self.assert_story(self.delay("succeeds"), "PENDING STARTED PROGRESS SUCCESS")
        by_task: dict[str, list[TaskEvent]] = {}
        for event in self.recorded.events:
            by_task.setdefault(event.task_id, []).append(event)
        for events in by_task.values():
            assert_rising_seq(events)
            assert_one_end_of_each_attempt(events)
        assert not any(path.exists() for path in self.forbidden)
        assert self._watcher is not None and self._watcher.error is None

    def close(self) -> None:
        """End all that was started."""
        self.recorded.close()
        if self._watcher is not None:
            self._watcher.stop()
        for child in reversed(self._children):
            child.stop(signal.SIGTERM, grace=3)
        gc.collect()  # Celery's results disconnect from their backend when collected, so do that before it is gone
        self.app.close()

    def _begin(self) -> None:
        """Start a worker and a gateway, and watch."""
        self.start_worker()
        self._until_worker_listens()
        gateway, port = start_gateway(self.redis.url, self.folder / "gateway.log", lost_after=LOST_AFTER)
        self._children.append(gateway)
        self._watcher = Watcher([port], USER)  # a gateway looks for dead workers as soon as somebody is connected

    def _until_worker_listens(self) -> None:
        """Wait until the worker receives commands: earlier ones are lost."""
        options = {"destination": [self._hostname()], "reply": True, "limit": 1, "timeout": 1}
        wait_until(lambda: self.app.control.broadcast("ping", **options), "the reply of the worker")

    def _hostname(self, queue: str = "") -> str:
        return f"{self.configuration}-{queue}@localhost"


def redis_options(*, visibility_timeout: int) -> dict[str, int]:
    """Settings of Celery's transport: after so many seconds another worker gets what was not acknowledged."""
    # By default it looks every 100 seconds; before kombu 5.7 these two had no names, and only a start looked earlier.
    every_second = {"unacked_restore_interval": 1, "unacked_restore_throttle": 1}
    return {"visibility_timeout": visibility_timeout, **every_second}


def start_worker(python: str, settings: dict[str, Any], options: list[str], log: Path) -> ChildProcess:
    """
    Start a worker with the tasks of :mod:`.tasks`.

    Args:
        python: The interpreter that has the wanted Celery.
        settings: For :func:`.tasks.make_app`.
        options: More for ``celery worker``.
        log: Where its output goes.
    """
    command = [python, "-m", "celery", "-A", "tests.lifecycle.worker_app", "worker"]
    command += ["--loglevel=INFO", "--without-gossip", "--without-mingle", *options]
    environment = {**os.environ, "LIFECYCLE_APP": json.dumps(settings), "PYTHONPATH": str(_ROOT)}
    return ChildProcess(command, log=log, environment=environment)


def start_gateway(redis_url: str, log: Path, **settings: object) -> tuple[ChildProcess, int]:
    """Start a gateway; it and its port, which answers already."""
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "JOBPUSH_REDIS_URL": redis_url}
    environment.update((f"JOBPUSH_{name.upper()}", str(value)) for name, value in settings.items())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-m", "gunicorn", "--config", "python:jobpush.gunicorn_conf"]
        command += ["--bind", f"fd://{listener.fileno()}", "tests.gateway.site:create_app()"]
        child = ChildProcess(command, log=log, environment=environment, descriptors=[listener.fileno()])
        return child, int(listener.getsockname()[1])


def story(events: Iterable[TaskEvent]) -> str:
    """What a user saw of one task, in the form that :meth:`Stand.assert_story` takes."""
    words: list[str] = []
    attempt = 1
    for event in events:
        if event.state is TaskState.RECEIVED:
            continue
        if event.attempt != attempt:
            words.append("|")
            attempt = event.attempt
        if words[-1:] != [event.state.value]:
            words.append(event.state.value)
    return " ".join(words)


def assert_rising_seq(events: Sequence[TaskEvent]) -> None:
    """Make sure that no event of a task came out of order, or twice."""
    assert all(before.seq < after.seq for before, after in itertools.pairwise(events)), described(events)


def assert_one_end_of_each_attempt(events: Sequence[TaskEvent]) -> None:
    """Check that each attempt ends once, and publishes nothing afterwards."""
    for attempt, words in itertools.groupby(events, key=lambda event: event.attempt):
        *before, last = words
        if events[-1].name != WORKFLOW:  # a LOST workflow still publishes the progress of its members
            assert not any(event.state.is_final for event in before), described(events)
        elif last.state.is_final:
            assert {event.state for event in before if event.state.is_final} <= {last.state}, described(events)
        if attempt != events[-1].attempt:
            assert last.state.is_final or last.state is TaskState.RETRY, described(events)
    attempts = [event.attempt for event in events]
    assert attempts == sorted(attempts), described(events)


def described(events: Sequence[TaskEvent]) -> list[str]:
    """Return the fields that identify an event of a task."""
    return [f"{event.name} {event.attempt}/{event.seq} {event.state} {event.error or ''}" for event in events]
