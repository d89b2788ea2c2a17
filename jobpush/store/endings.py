"""The end of a task as told by somebody else: the parent of its process, or a gateway that finds its worker dead."""

from __future__ import annotations

import time

from ..channels import Topic, escape_id
from ..config import Config
from ..events import TaskEvent
from ..lifecycle import TaskState
from .keys import Keys
from .scripts import Call, load_of_task

#: Of an attempt that somebody else ends: nothing is known of it.
BARE_MOMENT = TaskEvent("", TaskState.LOST).to_moment()


def end_call(
    config: Config,
    topic: Topic,
    task_id: str,
    state: TaskState,
    *,
    error: str | None = None,
    delivery: str = "",
    run_at: float | None = None,
    least: TaskState = TaskState.PENDING,
) -> Call:
    """
    End a task that may have told more of itself than we know.

    Args:
        config: Prefix, and how long things live.
        topic: Of its user.
        task_id: The task.
        state: A final one, or RETRY.
        error: What its user is told.
        delivery: Which stay of the message has ended; empty for a task that waits.
        run_at: Unix seconds at which the next attempt begins; ``None``: at once, or never.
        least: A task that has not come as far as this goes on.

    Returns:
        A call that gives what ``end.lua`` says: it is heard or refused as :mod:`jobpush.lifecycle` draws it.
    """
    now = time.time()
    delay = max(0.0, (run_at or 0.0) - now)
    event = TaskEvent(task_id, state, error=error, run_at=run_at if delay else None)
    # What is LOST may be delivered again much later, and is then to go on with the same bar.
    ttl = config.task_ttl + int(delay) if state in (TaskState.LOST, TaskState.RETRY) else config.final_ttl
    arguments = (
        escape_id(task_id),
        state.value,
        state.rank,
        delivery,
        least.rank,
        repr(now),
        event.to_moment(),
        ttl,
        config.history_size,
        config.history_ttl,
        BARE_MOMENT,
        config.final_ttl,
    )
    return Call(load_of_task("end"), Keys(config.prefix).of_task(topic, task_id), arguments)


def regain_call(config: Config, topic: Topic, task_id: str, delivery: str) -> Call:
    """Take back that a task is LOST, where it still is: a call that gives 1 if so."""
    arguments = (
        escape_id(task_id),
        delivery,
        repr(time.time()),
        TaskEvent(task_id, TaskState.RECEIVED).to_moment(),
        config.task_ttl,
        config.history_size,
        config.history_ttl,
    )
    return Call(load_of_task("regain"), Keys(config.prefix).of_task(topic, task_id), arguments)
