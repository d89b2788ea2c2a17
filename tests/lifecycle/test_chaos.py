"""Workers that are killed continuously, with tasks of all kinds: every task ends exactly once."""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from celery import Celery, Signature, chain, chord, group

from jobpush import JobPush
from jobpush.channels import user_topic
from jobpush.events import TaskEvent, TaskState
from jobpush.processes.child import ChildProcess
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.queues.celery.workflow import WORKFLOW
from jobpush.store.keys import Keys
from jobpush.store.messages import read_task
from jobpush.testing import PATIENCE
from tests.celery_site.site import as_broker
from tests.effort import thorough

from .stand import (
    LOST_AFTER,
    USER,
    assert_one_end_of_each_attempt,
    assert_rising_seq,
    described,
    redis_options,
    start_gateway,
    start_worker,
)
from .tasks import make_app
from .watcher import Watcher

#: Number of tasks to publish; ``make chaos`` sets a larger one.
TASKS = int(os.environ.get("LIFECYCLE_CHAOS", "300"))
#: Seconds between two kills of a worker; each is replaced.
_KILL_INTERVAL = 5.0
#: Seconds after which Redis redelivers an unacknowledged task.
_VISIBILITY_TIMEOUT = 6
#: Seconds without events after which no more are expected: tasks have a countdown of up to 10 seconds, and tasks of a
#: dead worker are redelivered after the visibility timeout.
_PATIENCE = 25.0
_QUEUE = "chaos"


@dataclass
class Chaos:
    """Three workers, two gateways, one Redis."""

    app: Celery
    jobpush: JobPush
    redis: redis.Redis
    watcher: Watcher
    settings: dict[str, Any]
    folder: Path
    workers: list[ChildProcess] = field(default_factory=list)
    task_ids: list[str] = field(default_factory=list)
    killed: int = 0

    def start_worker(self) -> None:
        """Start another worker."""
        number = self.killed + len(self.workers)
        options = ["-c", "4", "-Q", _QUEUE, "-n", f"chaos-{number}@localhost"]
        self.workers.append(start_worker(sys.executable, self.settings, options, self.folder / f"worker-{number}.log"))

    def kill_oldest_worker(self) -> None:
        """Kill the parent first, as the kernel does when memory runs out; then its children."""
        worker = self.workers.pop(0)
        os.kill(worker.pid, signal.SIGKILL)
        worker.kill()
        self.killed += 1

    def publish(self, count: int, dice: random.Random) -> None:
        """Publish tasks of all kinds, and cancel or revoke some."""
        for number in range(count):
            kind = dice.choice(_KINDS)
            self.task_ids.append(kind(self, dice, self.folder / f"file-{number}"))
            if number % 10 == 0:
                self.cancel_or_revoke(dice.choice(self.task_ids), dice)

    def delay(self, name: str, *args: Any, **options: Any) -> str:
        """Publish a task; return its id."""
        return str(self.app.send_task(name, args, headers={"jobpush_user": USER}, **options).id)

    def workflow(self, canvas: Signature) -> str:
        """Publish a canvas; return the task id of the workflow."""
        workflow = self.jobpush.track_workflow(canvas, USER)
        workflow.delay()
        return workflow.task_id

    def cancel_or_revoke(self, task_id: str, dice: random.Random) -> None:
        """Cancel a task, or revoke it with Celery, in any state."""
        dice.choice(
            [
                lambda: self.jobpush.cancel(task_id),
                lambda: self.app.control.revoke(task_id),
                lambda: self.app.control.revoke(task_id, terminate=True),
            ]
        )()

    def is_broker_empty(self) -> bool:
        """Return whether no message is queued or unacknowledged."""
        return not self.redis.llen(_QUEUE) and not self.redis.hlen("unacked")

    def is_over(self) -> bool:
        """Return whether the user has seen the end of all published tasks."""
        seen = self.watcher.newest()
        return all(task_id in seen and seen[task_id].state.is_final for task_id in self.task_ids)

    def history(self) -> list[TaskEvent]:
        """Return every event that Redis has published for the user."""
        entries = self.redis.xrange(Keys("jobpush").stream(user_topic(USER)))
        messages = (fields[b"h"] + b"\n" + fields[b"m"] for _, fields in entries)
        return [read_task(message) for message in messages if b'"event":"jobpush:task"' in message]


def works(this: Chaos, dice: random.Random) -> Signature:
    """Return a task of a canvas, which may be lost or run twice."""
    name = dice.choice(["works", "works_acking_late", "works_acking_late", "raises"])
    return this.app.signature(name, () if name == "raises" else (dice.uniform(0, 0.5),), immutable=True)


#: Each function publishes a task and returns its id; ``path`` is a file that does not exist yet.
_KINDS: list[Callable[[Chaos, random.Random, Path], str]] = [
    *[lambda this, dice, path: this.delay("works", dice.uniform(0, 1))] * 6,
    *[lambda this, dice, path: this.delay("works_acking_late", dice.uniform(0, 2))] * 6,
    *[lambda this, dice, path: this.delay("succeeds")] * 4,
    lambda this, dice, path: this.delay("raises"),
    lambda this, dice, path: this.delay("retries", dice.randrange(4)),
    lambda this, dice, path: this.delay("retries", 2, dice.uniform(0, 2)),
    lambda this, dice, path: this.delay("autoretries"),
    lambda this, dice, path: this.delay("ignores"),
    lambda this, dice, path: this.delay("rejects"),
    lambda this, dice, path: this.delay("replaced", dice.choice([True, False])),
    lambda this, dice, path: this.delay("exits"),
    lambda this, dice, path: this.delay("dies"),
    lambda this, dice, path: this.delay("dies_acking_late"),
    lambda this, dice, path: this.delay("dies_once", str(path)),
    lambda this, dice, path: this.delay("soft_limited"),
    lambda this, dice, path: this.delay("hard_limited"),
    lambda this, dice, path: this.delay("unregistered"),
    lambda this, dice, path: this.delay("succeeds", expires=dice.choice([-1, 1])),
    lambda this, dice, path: this.delay("works", 0.1, countdown=dice.uniform(0, 10)),
    lambda this, dice, path: this.workflow(chain(works(this, dice) for _ in range(3))),
    lambda this, dice, path: this.workflow(group(works(this, dice) for _ in range(4))),
    lambda this, dice, path: this.workflow(chord([works(this, dice) for _ in range(3)], works(this, dice))),
]


@contextmanager
def chaos(folder: Path) -> Iterator[Chaos]:
    """Run a Redis, two gateways, a watcher and three workers, without tasks."""
    # A busy machine may stall a worker for two seconds, which must not count as dead.
    kept = {"history_size": 1_000_000, "max_tasks": 100_000, "lost_after": 2 * LOST_AFTER}
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedRedis())
        settings = {
            "broker_url": as_broker(server.url),
            "backend_url": as_broker(server.url),
            "queue": _QUEUE,
            "conf": {"broker_transport_options": redis_options(visibility_timeout=_VISIBILITY_TIMEOUT)},
            "redis_url": server.url,
            "cancel_grace": 0.5,
            **kept,
        }
        app, jobpush = make_app(**{**settings, "publish_timeout": PATIENCE})  # this app also reads all tasks at once
        stack.callback(app.close)
        # Otherwise the results of a canvas use the backend when they are collected, which is after Redis has stopped.
        app.backend.result_consumer.cancel_for = lambda task_id: None
        gateways = [start_gateway(server.url, folder / f"gateway-{n}.log", **kept) for n in range(2)]
        for child, _ in gateways:
            stack.callback(child.stop, signal.SIGTERM, grace=5)
        watcher = Watcher([port for _, port in gateways], USER)
        stack.callback(watcher.stop)
        client = stack.enter_context(redis.Redis.from_url(server.url))
        this = Chaos(app, jobpush, client, watcher, settings, folder)
        stack.callback(lambda: [worker.kill() for worker in this.workers])
        for _ in range(3):
            this.start_worker()
        yield this


def kill_until_over(this: Chaos) -> None:
    """Kill a worker every few seconds, until all tasks have ended or no more events arrive."""
    last_event_at, seen = time.monotonic(), 0
    for kill_at in itertools.count(time.monotonic() + _KILL_INTERVAL, _KILL_INTERVAL):
        while time.monotonic() < kill_at:
            if len(this.watcher.events) > seen:
                last_event_at, seen = time.monotonic(), len(this.watcher.events)
            is_quiet = time.monotonic() > last_event_at + _PATIENCE
            if this.is_broker_empty() and (is_quiet or this.is_over()):
                return
            assert this.watcher.error is None, this.watcher.error
            time.sleep(0.2)
        this.kill_oldest_worker()
        this.start_worker()


def is_waiting(event: TaskEvent) -> bool:
    """Return whether a task, or a member of a workflow, has not been received by a worker as far as is known."""
    if event.name != WORKFLOW:
        return event.state in (TaskState.PENDING, TaskState.RETRY)
    children = event.data["children"]
    return children["total"] > sum(children[key] for key in ("succeeded", "failed", "revoked", "lost", "running"))


@thorough
def test_every_task_ends_once_despite_killed_workers(tmp_path: Path) -> None:
    with chaos(tmp_path) as this:
        this.publish(TASKS, random.Random(TASKS))
        kill_until_over(this)

        stored = {event.task_id: event for event in this.jobpush.tasks(USER, limit=len(this.task_ids))}
        history, seen, received = this.history(), this.watcher.newest(), list(this.watcher.events)

    assert this.killed > 0
    assert set(this.task_ids) <= set(stored)
    # Celery's Redis transport removes a message from the queue before it records it as unacknowledged: a worker that is
    # killed in between loses that one message.
    never_delivered = [event for event in stored.values() if not event.state.is_final]
    stuck = [event for event in never_delivered if not is_waiting(event)]
    assert not stuck, [described(by_task(history)[event.task_id]) for event in stuck]
    assert len(never_delivered) <= this.killed
    assert {task_id: (event.seq, event.state) for task_id, event in seen.items()} == {
        task_id: (event.seq, event.state) for task_id, event in stored.items()
    }
    for events in by_task(history).values():
        assert_rising_seq(events)
        assert_one_end_of_each_attempt(events)
    for events in by_task(received).values():
        assert_rising_seq(events)
    print(f"{TASKS} tasks, {this.killed} workers killed, {this.watcher.connections} connections, {len(history)} events")
    print(f"{len(never_delivered)} messages were lost by the broker")
    print(Counter(event.state.value for event in stored.values()), max(event.attempt for event in stored.values()))


def by_task(events: list[TaskEvent]) -> dict[str, list[TaskEvent]]:
    """Return the events of each task, in order."""
    tasks: dict[str, list[TaskEvent]] = {}
    for event in events:
        tasks.setdefault(event.task_id, []).append(event)
    return tasks
