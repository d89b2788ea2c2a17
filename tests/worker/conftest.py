"""A real Celery worker over a real Redis, and somebody who hears what a user's browser would hear."""

from __future__ import annotations

import json
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from jobpush import JobPush
from jobpush.channels import user_topic
from jobpush.embedded import EmbeddedRedis
from jobpush.events import TaskEvent, TaskState
from jobpush.processes import ChildProcess
from jobpush.store.keys import Keys
from jobpush.store.store import read_task_message

from .watched_tasks import make_app

#: Seconds after which what a test waits for will not come any more; never what a test takes.
PATIENCE = 30.0


def as_broker(url: str) -> str:
    """The address of a Redis on a unix socket as Celery takes it."""
    return url.replace("unix://", "redis+socket://").replace("?db=", "?virtual_host=")


class Listener:
    """Records the events of one user, as they are published."""

    def __init__(self, redis_url: str, user: str) -> None:
        self.events: list[TaskEvent] = []
        self.messages: list[bytes] = []
        self._client = redis.Redis.from_url(redis_url)
        self._pubsub = self._client.pubsub()
        self._pubsub.subscribe(Keys("jobpush").topic(user_topic(user)))
        assert self._pubsub.get_message(timeout=PATIENCE) is not None

    def until(self, is_reached: Callable[[TaskEvent], bool]) -> TaskEvent:
        """Listen until an event is such."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            message = self._pubsub.get_message(timeout=0.5)
            if message is None or message["type"] != "message":
                continue
            self.messages.append(message["data"])
            if b'"event":"jobpush:task"' in message["data"]:
                self.events.append(read_task_message(message["data"]))
                if is_reached(self.events[-1]):
                    return self.events[-1]
        raise AssertionError(f"it never came; there was {[(e.name, e.state.value) for e in self.events]}")

    def until_state(self, state: TaskState, task_id: str | None = None) -> TaskEvent:
        """Listen until a task has come to a state."""
        return self.until(lambda event: event.state is state and task_id in (None, event.task_id))

    def until_final(self, task_id: str) -> TaskEvent:
        """Listen until a task has ended."""
        return self.until(lambda event: event.state.is_final and event.task_id == task_id)

    def of(self, task_id: str) -> list[TaskEvent]:
        """All events of one task."""
        return [event for event in self.events if event.task_id == task_id]

    def states(self, task_id: str) -> list[str]:
        """The states of one task in order, without RECEIVED: it is refused where STARTED came first."""
        states: list[str] = []
        for event in self.of(task_id):
            if event.state is TaskState.RECEIVED or states[-1:] == [event.state.value]:
                continue
            states.append(event.state.value)
        return states

    def close(self) -> None:
        self._pubsub.close()
        self._client.close()


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

    def start_worker(self, *options: str) -> None:
        """Start a worker; what is published before it is ready waits for it."""
        script = Path(__file__).with_name("run_worker.py")
        command = [sys.executable, str(script), json.dumps(self.settings), *(options or ("-c", "2"))]
        self._workers.append(ChildProcess(command, log=self._log))

    def stop_worker(self) -> None:
        """Ask the worker to finish what it does, and wait until it has."""
        self._workers.pop().stop(signal.SIGTERM, grace=PATIENCE)

    def delay(self, name: str, *args: Any, **options: Any) -> str:
        """Publish a task; its id."""
        return str(self.app.tasks[name].apply_async(args, **options).id)

    def listen(self, user: str) -> Listener:
        """Begin to hear a user's events."""
        listener = Listener(self.redis.url, user)
        self._listeners.append(listener)
        return listener

    @property
    def log(self) -> str:
        """What the worker has written."""
        return self._log.read_text()

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()
        for worker in self._workers:
            worker.stop(signal.SIGTERM, grace=2)
        self.app.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A prefork worker with two children and a Redis for all; shared by a module, so tests have users of their own."""
    with EmbeddedRedis() as server:
        site = Site(server, server, tmp_path_factory.mktemp("site"), cancel_grace=0.2)
        site.start_worker()
        yield site
        site.close()


@pytest.fixture
def own_site(tmp_path: Path, redis_server: EmbeddedRedis) -> Iterator[Site]:
    """A site whose Redis for events a test may kill, for Celery has another; no worker is started."""
    with EmbeddedRedis() as broker:
        site = Site(broker, redis_server, tmp_path)
        yield site
        site.close()


@dataclass
class Eager:
    """Tasks that run in the test itself, and what their user hears of them."""

    app: Celery
    jobpush: JobPush
    listener: Listener
    user: str
    redis: redis.Redis

    def task(self, name: str = "eager", **tracking: Any) -> Callable[[Callable[..., Any]], Any]:
        """Make a tracked task whose only user is the test's."""

        def decorate(function: Callable[..., Any]) -> Any:
            if function.__name__ == "<lambda>":
                function.__name__ = name  # Celery takes no lambda
            options = {"user": lambda **_: self.user, **tracking}
            return self.app.task(name=name, shared=False)(self.jobpush.track(**options)(function))

        return decorate

    def run(self, task: Any, *args: Any, **kwargs: Any) -> list[TaskEvent]:
        """Run a task to its end; its events."""
        task_id = task.apply(args, kwargs).id
        self.listener.until_final(task_id)
        return self.listener.of(task_id)


@pytest.fixture
def eager(redis_url: str, user: str) -> Iterator[Eager]:
    """An app whose tasks a test runs itself."""
    app, jobpush = make_app("memory://", redis_url, min_interval=0.0)
    listener = Listener(redis_url, user)
    client = redis.Redis.from_url(redis_url)
    yield Eager(app, jobpush, listener, user, client)
    client.close()
    listener.close()
    app.close()


@pytest.fixture
def user() -> str:
    """A user of one test."""
    return uuid.uuid4().hex
