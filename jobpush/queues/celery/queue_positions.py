"""Queue positions of waiting tasks, and messages for tasks that no worker will take. Redis brokers only."""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
import uuid
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ...errors import StoreError, TaskNotFound
from ...events import CodedText, TaskState
from ...reporting.identity import TaskIdentity
from ...reporting.services import Services
from ...store.redis.errors import ShardUnavailable
from .compat import queue_head
from .headers import USER_HEADER, as_protocol_2, read_headers

logger = logging.getLogger(__name__)

#: Messages at the head of a queue that get a position. Positions further back matter little and cost more to read.
MAX_PLACES = 20
#: Text that the user reads of a task that waits in vain.
NOT_IN_QUEUE = CodedText("The task is no longer in its queue", "not_in_queue")
#: Seconds for which a queue is known to have a worker.
_KNOWN_FOR = 5.0
#: Seconds within which a worker receives a task that it took from the queue; later the task counts as purged.
_RECEIVED_WITHIN = 3.0
#: Shortest time in seconds for which a worker watches a queue, so that a short stall changes nothing.
_LEAST_LEAD = 5.0


class QueueWatcher:
    """
    The thread of a worker's parent that publishes the positions of the tasks at the head of the worker's queues.

    One of the workers of a queue does this, every ``place_interval`` seconds. It reads the queue each time, so it
    includes messages that others add or remove. A task that left the queue and was not received by any worker was
    purged: its bar shows that.
    """

    def __init__(self, consumer: Any, runtime: Services) -> None:
        """
        Args:
            consumer: Celery's, as ``worker_ready`` passes it.
            runtime: Of the same app.
        """
        self._consumer = consumer
        self._runtime = runtime
        self._id = uuid.uuid4().hex
        self._is_stopped = threading.Event()
        #: The positions that were published last, by queue and task.
        self._published: dict[str, dict[TaskIdentity, int]] = {}
        #: Tasks that have left their queue since, by queue, with the time.
        self._gone: dict[str, dict[TaskIdentity, float]] = {}
        if runtime.config.place_interval > 0:
            threading.Thread(target=self._run, name="jobpush-queues", daemon=True).start()

    def stop(self) -> None:
        """End the thread soon."""
        self._is_stopped.set()

    def _run(self) -> None:
        while not self._is_stopped.is_set():
            try:
                with self._consumer.app.connection_for_read() as connection:
                    if connection.transport.driver_type != "redis":
                        return
                    self._watch(connection.default_channel)
            except Exception as exc:  # an error of Redis or the broker; the next round tries again
                logger.debug("queue positions can't be published at the moment: %s", exc)
                self._is_stopped.wait(self._runtime.config.place_interval)

    def _watch(self, channel: Any) -> None:
        interval = self._runtime.config.place_interval
        while not self._is_stopped.is_set():
            for queue in [queue.name for queue in self._consumer.task_consumer.queues]:
                with suppress(ShardUnavailable):  # the other queues are on other primaries
                    if self._runtime.store.lead(queue, self._id, max(3 * interval, _LEAST_LEAD)):
                        self._look_at(queue, list(queue_head(channel, queue, MAX_PLACES)))
            self._is_stopped.wait(interval)

    def _look_at(self, queue: str, messages: list[bytes]) -> None:
        tasks = [_first_attempt(message) for message in messages]  # others' have a place too: they are taken first
        places = {task: place for place, task in enumerate(tasks) if task is not None}
        before = self._published.get(queue, {})
        for task, place in places.items():
            if before.get(task) != place:
                self._publish(task, ahead=place)
        if len(messages) < MAX_PLACES:
            self._publish_purged(queue, places)
        else:  # a task not among them may wait behind them
            self._gone.pop(queue, None)
        gone = self._gone.setdefault(queue, {})
        gone.update((task, time.monotonic()) for task in before if task not in places)
        self._published[queue] = places

    def _publish_purged(self, queue: str, places: dict[TaskIdentity, int]) -> None:
        """Publish the tasks that left the queue a while ago and were not received."""
        gone = self._gone.get(queue, {})
        for task in [task for task, since in gone.items() if since + _RECEIVED_WITHIN < time.monotonic()]:
            with suppress(ShardUnavailable):  # it is tried again
                self._publish_if_purged(task, places)
                del gone[task]

    def _publish_if_purged(self, task: TaskIdentity, places: dict[TaskIdentity, int]) -> None:
        with suppress(TaskNotFound):
            stored = self._runtime.store.task(task.task_id, user_id=task.user_id)
            if task not in places and stored.state is TaskState.PENDING and not stored.message:
                self._publish(task, message=NOT_IN_QUEUE)

    def _publish(self, task: TaskIdentity, **progress: Any) -> None:
        write = task.write(task.event(TaskState.PENDING, **progress), task_ttl=self._runtime.config.task_ttl)
        self._runtime.publisher.submit(replace(write, pinned=False))


def publish_no_worker(runtime: Services, task: TaskIdentity, queue: str) -> None:
    """Publish it if no worker watches the queue of a task that was just published."""
    if runtime.config.place_interval > 0 and task.root_id is None and not _has_worker(runtime, queue):
        message = CodedText(f"No worker is running for the queue {queue}", f"no_worker:{queue}")
        event = task.event(TaskState.PENDING, message=message)
        runtime.publisher.submit(task.write(event, task_ttl=runtime.config.task_ttl))


#: Until when a queue is known to have a worker. For a queue without one, Redis is asked each time: a worker may have
#: just started.
_known: weakref.WeakKeyDictionary[Services, dict[str, float]] = weakref.WeakKeyDictionary()


def _has_worker(runtime: Services, queue: str) -> bool:
    known = _known.setdefault(runtime, {})
    if known.get(queue, 0.0) < time.monotonic():
        store = runtime.store
        try:
            if not store.run([("EXISTS", store.keys.queue_leader(queue))])[0]:
                return False
        except StoreError:
            return True  # unknown
        known[queue] = time.monotonic() + _KNOWN_FOR
    return True


def _headers_of(message: dict[str, Any]) -> Mapping[str, Any]:
    """Return the headers of a message of Celery's protocol 2, or of protocol 1, whose body has the id and the name."""
    headers: dict[str, Any] = message["headers"]
    if "id" in headers or headers.get(USER_HEADER) is None:
        return headers
    body = message["body"]
    if message["properties"].get("body_encoding") == "base64":
        body = base64.b64decode(body)
    return as_protocol_2(headers, json.loads(body))


def _first_attempt(message: bytes) -> TaskIdentity | None:
    """Return the task of a message that waits for its first attempt and has its own bar; otherwise ``None``."""
    try:
        headers = _headers_of(json.loads(message))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None  # of another program
    tracked = read_headers(headers)
    is_back = headers.get("redelivered") or headers.get("replaced_task_nesting")
    if tracked is None or tracked.attempt > 1 or tracked.root_id is not None or is_back:
        return None
    return tracked
