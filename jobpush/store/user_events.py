"""What one user hears: the snapshots of the user's tasks, then every event as it comes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..channels import user_topic
from ..config import Config
from ..events import TASK_EVENT, TaskEvent
from .messages import COMMAND, Message, read_event, read_message
from .store import Store


@dataclass(frozen=True)
class Heard:
    """One event on a user's topic; ``task`` is there if it is a task's."""

    event: str
    data: Any
    task: TaskEvent | None = None


def listen(config: Config, user_id: str) -> Iterator[Heard]:
    """
    Hear what a user's browser would hear, until the caller has enough.

    Nothing is missed or heard twice in between: the subscription stands before the snapshots are read.

    Raises:
        StoreError: If Redis does not answer, or goes away.
    """
    store = Store(config)
    try:
        messages = store.client.subscribe(store.keys.topic(user_topic(user_id)))
        next(messages)  # the confirmation
        tasks = sorted(store.tasks(user_id), key=lambda task: task.at)
        yield from (Heard(TASK_EVENT, task.to_wire(), task) for task in tasks)
        seen = {task.task_id: task.seq for task in tasks}
        for payload in messages:
            message = read_message(payload or b"")
            if message.task_id == COMMAND or message.is_for_task_alone:
                continue  # not for browsers, or not for the user's own channel
            heard = _read(message)
            if heard.task is None or heard.task.seq > seen.get(heard.task.task_id, 0):
                yield heard
    finally:
        store.close()


def _read(message: Message) -> Heard:
    event, data = read_event(message.members)
    return Heard(event, data, TaskEvent.from_wire(data) if event == TASK_EVENT else None)
