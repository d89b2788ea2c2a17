"""Workers that are killed all the time, with tasks of all kinds: none is left without its one end."""

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

#: Tasks to publish: each day few, with ``make chaos`` as many as the bar asks for.
TASKS = int(os.environ.get("LIFECYCLE_CHAOS", "300"))
#: Seconds after which a worker is killed, and another takes its place.
_KILL_INTERVAL = 5.0
#: Seconds after which Redis gives a task to another worker that was not acknowledged.
_VISIBILITY_TIMEOUT = 6
#: Seconds without anything new after which nothing will come any more: tasks start up to 10 seconds late, and what
#: a dead worker had is delivered again after the visibility timeout.
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
        """One more."""
        number = self.killed + len(self.workers)
        options = ["-c", "4", "-Q", _QUEUE, "-n", f"chaos-{number}@localhost"]
        self.workers.append(start_worker(sys.executable, self.settings, options, self.folder / f"worker-{number}.log"))

    def kill_the_oldest_worker(self) -> None:
        """As the kernel would that is out of memory: the parent, whose children follow it."""
        worker = self.workers.pop(0)
        os.kill(worker.pid, signal.SIGKILL)
        worker.kill()
        self.killed += 1

    def publish(self, count: int, dice: random.Random) -> None:
        """Publish tasks of all kinds, and change one's mind about some."""
        for number in range(count):
            kind = dice.choice(_KINDS)
            self.task_ids.append(kind(self, dice, self.folder / f"file-{number}"))
            if number % 10 == 0:
                self.change_ones_mind(dice.choice(self.task_ids), dice)

    def delay(self, name: str, *args: Any, **options: Any) -> str:
        """Publish a task; its id."""
        return str(self.app.send_task(name, args, headers={"jobpush_user": USER}, **options).id)

    def workflow(self, canvas: Signature) -> str:
        """Publish a canvas; the id of its bar."""
        workflow = self.jobpush.track_workflow(canvas, USER)
        workflow.delay()
        return workflow.task_id

    def change_ones_mind(self, task_id: str, dice: random.Random) -> None:
        """Cancel a task, or have Celery revoke it, whatever it is doing."""
        dice.choice(
            [
                lambda: self.jobpush.cancel(task_id),
                lambda: self.app.control.revoke(task_id),
                lambda: self.app.control.revoke(task_id, terminate=True),
            ]
        )()

    def is_broker_empty(self) -> bool:
        """Whether no task waits, and no worker has one that it has not acknowledged."""
        return not self.redis.llen(_QUEUE) and not self.redis.hlen("unacked")

    def is_over(self) -> bool:
        """Whether all that was published has ended, as the user sees it."""
        seen = self.watcher.newest()
        return all(task_id in seen and seen[task_id].state.is_final for task_id in self.task_ids)

    def history(self) -> list[TaskEvent]:
        """Every event that Redis has published for the user."""
        entries = self.redis.xrange(Keys("jobpush").stream(user_topic(USER)))
        messages = (fields[b"h"] + b"\n" + fields[b"m"] for _, fields in entries)
        return [read_task(message) for message in messages if b'"event":"jobpush:task"' in message]


def works(this: Chaos, dice: random.Random) -> Signature:
    """A task of a canvas, which a worker may lose or do twice."""
    name = dice.choice(["works", "works_acking_late", "works_acking_late", "raises"])
    return this.app.signature(name, () if name == "raises" else (dice.uniform(0, 0.5),), immutable=True)


#: Each publishes something and gives its id; a path is a file that is not there yet.
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
    lambda this, dice, path: this.delay("nobody_knows"),
    lambda this, dice, path: this.delay("succeeds", expires=dice.choice([-1, 1])),
    lambda this, dice, path: this.delay("works", 0.1, countdown=dice.uniform(0, 10)),
    lambda this, dice, path: this.workflow(chain(works(this, dice) for _ in range(3))),
    lambda this, dice, path: this.workflow(group(works(this, dice) for _ in range(4))),
    lambda this, dice, path: this.workflow(chord([works(this, dice) for _ in range(3)], works(this, dice))),
]


@contextmanager
def chaos(folder: Path) -> Iterator[Chaos]:
    """All that is needed, with no task yet."""
    # A worker that a busy machine holds up for two seconds is not to be taken for dead here.
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
        app, jobpush = make_app(**{**settings, "publish_timeout": PATIENCE})  # which also asks for all tasks at once
        stack.callback(app.close)
        # Else each result of a canvas asks for the backend when it is given up, which is after the end of Redis.
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
    """Kill a worker every few seconds, until all tasks have come to an end or nothing happens any more."""
    last_news, seen = time.monotonic(), 0
    for kill_at in itertools.count(time.monotonic() + _KILL_INTERVAL, _KILL_INTERVAL):
        while time.monotonic() < kill_at:
            if len(this.watcher.events) > seen:
                last_news, seen = time.monotonic(), len(this.watcher.events)
            is_quiet = time.monotonic() > last_news + _PATIENCE
            if this.is_broker_empty() and (is_quiet or this.is_over()):
                return
            assert this.watcher.error is None, this.watcher.error
            time.sleep(0.2)
        this.kill_the_oldest_worker()
        this.start_worker()


def is_waiting(event: TaskEvent) -> bool:
    """Whether nobody has it, as far as is known: the task itself, or a member of the workflow that it is."""
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
    # Celery's Redis transport takes a message out of the queue and then notes that it has it: who is killed between
    # the two, with the one message that Redis has just handed to it, loses it for all. Nobody has it then.
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
    """The events of each task, in their order."""
    tasks: dict[str, list[TaskEvent]] = {}
    for event in events:
        tasks.setdefault(event.task_id, []).append(event)
    return tasks
