"""The events of one user: the snapshots of the user's tasks, then every live event."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from typing import Any

from ..channels import user_topic
from ..config import Config
from ..errors import EventError, MalformedMessage, TaskNotFound
from ..events import LOG_EVENT, TASK_EVENT, TaskEvent
from .messages import COMMAND, Message, read_event, read_message
from .store import Store
from .task_logs import LogEntry, line_position


@dataclass(frozen=True)
class UserEvent:
    """One event on a user's topic, with the ``task`` of a snapshot, or the ``line`` of a log."""

    event: str
    data: Any
    task: TaskEvent | None = None
    line: LogEntry | None = None


def listen(config: Config, user_id: str, *, with_logs: bool = False) -> Iterator[UserEvent]:
    """
    Yield the events that a user's browser would receive.

    No event is missed or repeated: the subscription begins before the snapshots are read.

    Args:
        config: The settings.
        user_id: The user.
        with_logs: Whether to read the logs of the tasks too. The kept lines of a task follow its snapshot.

    Raises:
        StoreError: If Redis does not answer, or the connection is lost.
    """
    with closing(Store(config)) as store:
        payloads = store.client.subscribe(store.keys.topic(user_topic(user_id)))
        next(payloads)  # the confirmation
        tasks = sorted(store.tasks(user_id), key=lambda task: task.at)
        seen = {task.task_id: task.seq for task in tasks}
        read: dict[str, tuple[int, int]] = {}  # place of the last line read, by task
        for task in tasks:
            yield UserEvent(TASK_EVENT, task.to_wire(), task)
            for line in _kept_lines(store, task.task_id) if with_logs else ():
                read[task.task_id] = line_position(line.id)
                yield UserEvent(LOG_EVENT, {"task_id": task.task_id, **asdict(line)}, line=line)
        for payload in payloads:
            try:
                message = read_message(payload or b"")
                if message.task_id == COMMAND or message.is_for_task_alone:
                    continue  # meant for gateways, or for the task's own channel
                event = _read(message)
                if event.line is not None:
                    place = line_position(event.line.id)
                    is_new = with_logs and place > read.get(event.data["task_id"], (0, 0))
                else:
                    is_new = event.task is None or event.task.seq > seen.get(event.task.task_id, 0)
            except (MalformedMessage, EventError, ValueError, KeyError, TypeError):
                continue  # from another program in Redis, or a newer version
            if is_new:
                yield event


def _kept_lines(store: Store, task_id: str) -> Iterator[LogEntry]:
    with suppress(TaskNotFound):  # the task has expired meanwhile
        yield from store.task_log_lines(task_id)


def _read(message: Message) -> UserEvent:
    event, data = read_event(message.members)
    task = TaskEvent.from_wire(data) if event == TASK_EVENT else None
    return UserEvent(event, data, task, LogEntry.from_wire(data) if event == LOG_EVENT else None)
