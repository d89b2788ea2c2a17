"""A running configuration with its worker, and a recorder of the events that a user sees."""

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
from tests.preloaded import PreloadedProcess
from tests.waiting import wait_until

from .configurations import Configuration
from .tasks import make_app
from .watcher import Watcher

_ROOT = Path(__file__).parents[2]
#: The one user of a stand.
USER = "42"
#: Seconds after which a silent worker counts as dead; a busy machine may stall for a second.
LOST_AFTER = 3.0
#: Countdown of tasks that are cancelled before they start, in seconds.
_CANCEL_DELAY = 4
#: Worker options by pool, with the concurrency that the rows need.
_POOLS = {
    "prefork": ["-P", "prefork", "-c", "2"],
    "threads": ["-P", "threads", "-c", "2"],
    "gevent": ["-P", "gevent", "-c", "10"],
    "solo": ["-P", "solo"],
}


class Stand:
    """A running configuration: publishes tasks, and records the events of their user."""

    def __init__(self, configuration: Configuration, redis: EmbeddedRedis, amqp_url: str | None, folder: Path) -> None:
        """
        Args:
            configuration: The configuration.
            redis: An empty Redis for the events, and for tasks and results if the configuration uses it.
            amqp_url: URL of RabbitMQ if that is the broker.
            folder: Folder for logs, and for the files that tasks and tests wait for.
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
            # Otherwise the results of a canvas use the backend when collected, which is after Redis has stopped.
            self.app.backend.result_consumer.cancel_for = lambda task_id: None
        self.recorded = RecordedEvents(redis.url, USER)
        self._children: list[ChildProcess] = []
        self._watcher: Watcher | None = None
        #: Files that would only be created by tasks that must not run.
        self.forbidden: list[Path] = []
        #: Monotonic time at which all countdowns of :meth:`cancel_delay` have passed.
        self._quiet_after = 0.0
        self._paths = (folder / f"file-{number}" for number in range(10_000))
        try:
            self._begin()
        except BaseException:
            self.close()  # the caller has no reference yet
            raise

    def start_worker(self, queue: str = "", *, restores: bool = False) -> ChildProcess:
        """
        Start a worker on the default queue, or on a queue that is also passed to :meth:`delay`.

        Args:
            queue: Name of the queue; empty: the default queue.
            restores: Whether a worker on Redis redelivers messages that are not acknowledged within two seconds. That
                is less than Celery itself may need to detect a dead child.
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
        """Let the worker also read another queue."""
        queue = f"{self.configuration}-{name}"
        self.app.control.add_consumer(queue, destination=[self._hostname()], reply=True, timeout=PATIENCE, limit=1)

    def path(self) -> Path:
        """Return the path of a file that does not exist yet."""
        return next(self._paths)

    def forbidden_path(self) -> Path:
        """Return the path of a file that would be created by a task that must not run."""
        self.forbidden.append(self.path())
        return self.forbidden[-1]

    def cancel_delay(self) -> int:
        """Return the countdown of a task that is cancelled before it starts. The final check waits until it is over."""
        self._quiet_after = time.monotonic() + _CANCEL_DELAY + 1.0  # the task is published a moment later
        return _CANCEL_DELAY

    def delay(self, name: str, *args: Any, queue: str | None = None, **options: Any) -> str:
        """Publish a task of the user, by default to the worker's queue; return its id."""
        if queue:
            options["queue"] = f"{self.configuration}-{queue}"
        headers = {"jobpush_user": USER}
        arguments = [str(argument) if isinstance(argument, Path) else argument for argument in args]
        return str(self.app.send_task(name, arguments, headers=headers, **options).id)

    def task(self, name: str, *args: Any, **options: Any) -> Signature:
        """Return the signature of a task, for a canvas."""
        arguments = tuple(str(argument) if isinstance(argument, Path) else argument for argument in args)
        return self.app.signature(name, arguments, immutable=True, options=options)

    def workflow(self, canvas: Signature) -> str:
        """Publish a canvas as a workflow of the user; return its task id."""
        workflow = self.jobpush.track_workflow(canvas, USER)
        workflow.delay()
        return workflow.task_id

    def until(self, task_id: str, state: TaskState) -> TaskEvent:
        """Wait until the user sees a task in a state; return the event."""
        return self.recorded.until_state(state, task_id)

    def until_exists(self, path: Path) -> None:
        """Wait until a task has created a file."""
        wait_until(path.exists, path.name)

    def assert_states(self, task_id: str, expected: str) -> TaskEvent:
        """
        Wait for the end of a task, and check all states that the user saw.

        Args:
            task_id: Id of the task.
            expected: The states, with attempts separated by ``|``. RECEIVED is left out, because it is refused after
                STARTED; repeated states are given once.

        Returns:
            The last event.
        """
        attempts = expected.count("|") + 1

        def is_last(event: TaskEvent) -> bool:
            return event.task_id == task_id and event.state.is_final and event.attempt >= attempts

        if not any(is_last(event) for event in self.recorded.events):
            self.recorded.until(is_last)
        events = self.recorded.of(task_id)
        assert states_of(events) == expected
        return events[-1]

    def assert_consistent(self) -> None:
        """Check the invariants of all tasks that the user has seen."""
        time.sleep(max(0.0, self._quiet_after - time.monotonic()))
        self.assert_states(self.delay("succeeds"), "PENDING STARTED PROGRESS SUCCESS")
        by_task: dict[str, list[TaskEvent]] = {}
        for event in self.recorded.events:
            by_task.setdefault(event.task_id, []).append(event)
        for events in by_task.values():
            assert_rising_seq(events)
            assert_one_end_of_each_attempt(events)
        assert not any(path.exists() for path in self.forbidden)
        assert self._watcher is not None and self._watcher.error is None

    def close(self) -> None:
        """Stop everything that was started."""
        self.recorded.close()
        if self._watcher is not None:
            self._watcher.stop()
        for child in reversed(self._children):
            child.stop(signal.SIGTERM, grace=3)
        gc.collect()  # Celery's results disconnect from their backend when collected: do it before the backend stops
        self.app.close()

    def _begin(self) -> None:
        """Start a worker, a gateway and a watcher."""
        self.start_worker()
        self._wait_until_worker_listens()
        gateway, port = start_gateway(self.redis.url, self.folder / "gateway.log", lost_after=LOST_AFTER)
        self._children.append(gateway)
        self._watcher = Watcher([port], USER)  # a gateway looks for dead workers once a client is connected

    def _wait_until_worker_listens(self) -> None:
        """Wait until the worker receives remote-control commands: earlier ones are lost."""
        options = {"destination": [self._hostname()], "reply": True, "limit": 1, "timeout": 1}
        wait_until(lambda: self.app.control.broadcast("ping", **options), "the reply of the worker")

    def _hostname(self, queue: str = "") -> str:
        return f"{self.configuration}-{queue}@localhost"


def redis_options(*, visibility_timeout: int) -> dict[str, int]:
    """Return options of Celery's Redis transport that redeliver unacknowledged messages after this many seconds."""
    # By default kombu checks every 100 seconds. Without these options, before kombu 5.7, only a start checks earlier.
    every_second = {"unacked_restore_interval": 1, "unacked_restore_throttle": 1}
    return {"visibility_timeout": visibility_timeout, **every_second}


def start_worker(python: str, settings: dict[str, Any], options: list[str], log: Path) -> ChildProcess:
    """
    Start a worker with the tasks of :mod:`.tasks`.

    Args:
        python: The interpreter with the wanted Celery.
        settings: Arguments of :func:`.tasks.make_app`.
        options: Additional options of ``celery worker``.
        log: File for its output.
    """
    command = [python, "-m", "celery", "-A", "tests.lifecycle.worker_app", "worker"]
    command += ["--loglevel=INFO", "--without-gossip", "--without-mingle", *options]
    environment = {**os.environ, "LIFECYCLE_APP": json.dumps(settings), "PYTHONPATH": str(_ROOT)}
    return PreloadedProcess(command, log=log, environment=environment)


def start_gateway(redis_url: str, log: Path, **settings: object) -> tuple[ChildProcess, int]:
    """Start a gateway; return it and its port, which accepts connections at once."""
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "JOBPUSH_REDIS_URL": redis_url}
    environment.update((f"JOBPUSH_{name.upper()}", str(value)) for name, value in settings.items())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-m", "gunicorn", "--config", "python:jobpush.gunicorn_conf"]
        command += ["--bind", f"fd://{listener.fileno()}", "tests.gateway.site:create_app()"]
        child = PreloadedProcess(command, log=log, environment=environment, descriptors=[listener.fileno()])
        return child, int(listener.getsockname()[1])


def states_of(events: Iterable[TaskEvent]) -> str:
    """Return the states of one task as a user saw them, in the format of :meth:`Stand.assert_states`."""
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
    """Check that no event of a task arrived out of order or twice."""
    assert all(before.seq < after.seq for before, after in itertools.pairwise(events)), described(events)


def assert_one_end_of_each_attempt(events: Sequence[TaskEvent]) -> None:
    """Check that each attempt ends once, and that nothing is published after its end."""
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
    """Return a short description of each event."""
    return [f"{event.name} {event.attempt}/{event.seq} {event.state} {event.error or ''}" for event in events]
