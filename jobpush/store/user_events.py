"""The events of one user: the snapshots of the user's tasks, then every event as it comes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..channels import user_topic
from ..config import Config
from ..errors import EventError, MalformedMessage
from ..events import TASK_EVENT, TaskEvent
from .messages import COMMAND, Message, read_event, read_message
from .store import Store


@dataclass(frozen=True)
class UserEvent:
    """One event on a user's topic, with the ``task`` if it is a task's."""

    event: str
    data: Any
    task: TaskEvent | None = None


def listen(config: Config, user_id: str) -> Iterator[UserEvent]:
    """
    Read what a user's browser would receive, until the caller has enough.

    Nothing is missed or repeated: the subscription begins before the snapshots are read.

    Raises:
        StoreError: If Redis does not answer, or goes away.
    """
    store = Store(config)
    try:
        payloads = store.client.subscribe(store.keys.topic(user_topic(user_id)))
        next(payloads)  # the confirmation
        tasks = sorted(store.tasks(user_id), key=lambda task: task.at)
        yield from (UserEvent(TASK_EVENT, task.to_wire(), task) for task in tasks)
        seen = {task.task_id: task.seq for task in tasks}
        for payload in payloads:
            try:
                message = read_message(payload or b"")
                if message.task_id == COMMAND or message.is_for_task_alone:
                    continue  # for gateways, or for the task's own channel
                event = _read(message)
            except (MalformedMessage, EventError):
                continue  # of a neighbour in Redis, or of a newer version
            if event.task is None or event.task.seq > seen.get(event.task.task_id, 0):
                yield event
    finally:
        store.close()


def _read(message: Message) -> UserEvent:
    event, data = read_event(message.members)
    return UserEvent(event, data, TaskEvent.from_wire(data) if event == TASK_EVENT else None)
