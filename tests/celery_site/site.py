"""A real Celery worker with a real Redis, and a recorder of the events that a user's browser would receive."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from jobpush import JobPush
from jobpush.events import TaskEvent
from jobpush.processes.child import ChildProcess
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.testing import PATIENCE
from jobpush.testing import RecordedEvents as Listener
from tests.preloaded import PreloadedProcess

from .watched_tasks import make_app

#: Timeouts so long that no event is dropped because of a slow machine.
PATIENT: dict[str, Any] = {"publish_timeout": PATIENCE, "flush_timeout": PATIENCE}


def as_broker(url: str) -> str:
    """Convert the URL of a Redis on a unix socket to Celery's format."""
    return url.replace("unix://", "redis+socket://").replace("?db=", "?virtual_host=")


class Site:
    """An application with tasks, its worker and its Redis."""

    def __init__(self, broker: EmbeddedRedis, events: EmbeddedRedis, folder: Path, **settings: Any) -> None:
        self.broker, self.redis = broker, events
        self.settings = {"broker_url": as_broker(broker.url), "redis_url": events.url, **settings}
        self.app: Celery
        self.jobpush: JobPush
        self.app, self.jobpush = make_app(**self.settings)
        self._log = folder / "worker.log"
        self._workers: list[ChildProcess] = []
        self._listeners: list[Listener] = []

    def start_worker(self, *options: str, environment: Mapping[str, str] | None = None) -> ChildProcess:
        """Start a worker, without waiting until it is ready."""
        script = Path(__file__).with_name("run_worker.py")
        command = [sys.executable, str(script), json.dumps(self.settings), *(options or ("-c", "2"))]
        self._workers.append(
            PreloadedProcess(command, log=self._log, environment={**os.environ, **(environment or {})})
        )
        return self._workers[-1]

    def stop_worker(self) -> None:
        """Stop the last worker after its running tasks, and wait for its end."""
        self._workers.pop().stop(signal.SIGTERM, grace=PATIENCE)

    def delay(self, name: str, *args: Any, **options: Any) -> str:
        """Publish a task; return its id."""
        return str(self.app.tasks[name].apply_async(args, **options).id)

    def listen(self, user: str) -> Listener:
        """Start recording a user's events."""
        listener = Listener(self.redis.url, user)
        self._listeners.append(listener)
        return listener

    @property
    def log(self) -> str:
        """The log of the workers."""
        return self._log.read_text()

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()
        for worker in self._workers:
            worker.stop(signal.SIGTERM, grace=2)
        self.jobpush._runtime.close()
        gc.collect()  # Celery's results disconnect from their backend when collected: do it before the backend stops
        self.app.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with a prefork worker with two children; shared by the tests of a module, which use different users."""
    with EmbeddedRedis() as server:
        site = Site(server, server, tmp_path_factory.mktemp("site"), cancel_grace=0.2, **PATIENT)
        site.start_worker()
        yield site
        site.close()


@pytest.fixture
def own_site(tmp_path: Path, redis_server: EmbeddedRedis) -> Iterator[Site]:
    """A site without a worker, whose Redis for events a test may kill; the broker is another Redis."""
    with EmbeddedRedis() as broker:
        site = Site(broker, redis_server, tmp_path, **PATIENT)
        yield site
        site.close()


@pytest.fixture
def hasty_site(tmp_path: Path, redis_server: EmbeddedRedis) -> Iterator[Site]:
    """Like ``own_site``, but with the default timeouts, for tests of a slow Redis."""
    with EmbeddedRedis() as broker:
        site = Site(broker, redis_server, tmp_path)
        yield site
        site.close()


@dataclass
class Eager:
    """Tasks that run in the test process, and their recorded events."""

    app: Celery
    jobpush: JobPush
    listener: Listener
    user: str
    redis: redis.Redis

    def task(self, name: str = "eager", **tracking: Any) -> Callable[[Callable[..., Any]], Any]:
        """Return a decorator for a task that is tracked for the test's user."""

        def decorate(function: Callable[..., Any]) -> Any:
            if function.__name__ == "<lambda>":
                function.__name__ = name  # Celery does not accept a lambda
            options = {"user": lambda **_: self.user, **tracking}
            return self.app.task(name=name, shared=False)(self.jobpush.track(**options)(function))

        return decorate

    def run(self, task: Any, *args: Any, **kwargs: Any) -> list[TaskEvent]:
        """Run a task to its end; return its events."""
        task_id = task.apply(args, kwargs).id
        self.listener.until_final(task_id)
        return self.listener.of(task_id)


@pytest.fixture
def eager(redis_url: str, user: str) -> Iterator[Eager]:
    """An app whose tasks run in the test process."""
    app, jobpush = make_app("memory://", redis_url, min_interval=0.0, **PATIENT)
    listener = Listener(redis_url, user)
    client = redis.Redis.from_url(redis_url)
    yield Eager(app, jobpush, listener, user, client)
    client.close()
    listener.close()
    jobpush._runtime.close()
    app.close()


@pytest.fixture
def user() -> str:
    """A user id that is unique to the test."""
    return uuid.uuid4().hex
