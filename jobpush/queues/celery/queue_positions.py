"""How those who are next in a queue learn how many are before them, where the broker can tell."""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ...events import TaskState
from ...reporting.identity import TaskIdentity
from ...reporting.services import Services
from ...store import TaskWrite
from .compat import queue_head
from .headers import read_headers

logger = logging.getLogger(__name__)

#: Places from the head of a queue that are told; reading more would cost more, and interest nobody yet.
MAX_PLACES = 20


class QueueWatcher:
    """
    The thread of a worker's parent that looks at the head of the worker's queues, and tells who waits there.

    Only a Redis broker lets itself be looked at. Of all workers of a queue one looks, every ``place_interval`` seconds;
    it reads the places anew each time, so what others put into the queue or take out of it is counted too.
    """

    def __init__(self, consumer: Any, runtime: Services) -> None:
        """
        Args:
            consumer: Celery's, as ``worker_ready`` gives it.
            runtime: Of the same app.
        """
        self._consumer = consumer
        self._runtime = runtime
        self._id = uuid.uuid4().hex
        self._is_stopped = threading.Event()
        #: The places that were told last, by queue and task id.
        self._told: dict[str, dict[str, int]] = {}
        if runtime.config.place_interval > 0:
            threading.Thread(target=self._run, name="jobpush-queues", daemon=True).start()

    def stop(self) -> None:
        """End the thread, soon."""
        self._is_stopped.set()

    def _run(self) -> None:
        while not self._is_stopped.is_set():
            try:
                with self._consumer.app.connection_for_read() as connection:
                    if connection.transport.driver_type != "redis":
                        return
                    self._watch(connection.default_channel)
            except Exception as exc:  # of Redis or of the broker; nobody waits for this
                logger.debug("places in the queues can't be told at the moment: %s", exc)
                self._is_stopped.wait(self._runtime.config.place_interval)

    def _watch(self, channel: Any) -> None:
        interval = self._runtime.config.place_interval
        while not self._is_stopped.wait(interval):
            for queue in [queue.name for queue in self._consumer.task_consumer.queues]:
                if self._runtime.store.lead(queue, self._id, 3 * interval):
                    self._publish_places(queue, dict(_places(channel, queue)))

    def _publish_places(self, queue: str, places: dict[TaskIdentity, int]) -> None:
        before = self._told.get(queue, {})
        self._told[queue] = {tracked.task_id: place for tracked, place in places.items()}
        for tracked, place in places.items():
            if before.get(tracked.task_id) != place:
                self._runtime.publisher.submit(self._write(tracked, place))

    def _write(self, tracked: TaskIdentity, place: int) -> TaskWrite:
        event = replace(tracked.event(TaskState.PENDING), ahead=place)
        return replace(tracked.write(event, task_ttl=self._runtime.config.task_ttl), pinned=False)


def _places(channel: Any, queue: str) -> Iterator[tuple[TaskIdentity, int]]:
    """The tracked tasks at the head of a queue, and how many messages are before each."""
    for ahead, message in enumerate(queue_head(channel, queue, MAX_PLACES)):
        tracked = _first_attempt(json.loads(message)["headers"])
        if tracked is not None:
            yield tracked, ahead


def _first_attempt(headers: dict[str, Any]) -> TaskIdentity | None:
    """The task of a message, if its user is to see it as one that waits: no member of a workflow, and no comeback."""
    tracked = read_headers(headers) if "id" in headers else None  # else it is of protocol 1
    is_back = headers.get("redelivered") or headers.get("replaced_task_nesting")
    if tracked is None or tracked.attempt > 1 or tracked.root_id is not None or is_back:
        return None
    return tracked
