"""Calls of the scripts that read and change tasks, for any client."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from ..channels import Topic, escape_id, parse_channel, unescape_id, user_topic
from ..config import Config
from ..events import TaskEvent
from ..lifecycle import TaskState
from .keys import Keys
from .records import TaskWrite
from .scripts import CANCEL, END, HISTORY, OWN, PUBLISH, PUBLISH_WORKFLOW, REGAIN, Call, Script

#: Volatile fields of an attempt that another process ends: all are unknown.
_BARE_JSON = TaskEvent("", TaskState.LOST).volatile_json()


def _on_task(script: Script, config: Config, topic: Topic, task_id: str) -> Callable[..., Call]:
    """Return a script with its keys for one task, and with the settings that all of them take."""
    return partial(
        script,
        Keys.of(config).of_task(topic, task_id),
        task_id=escape_id(task_id),
        final_ttl=config.final_ttl,
        history_size=config.history_size,
        history_ttl=config.history_ttl,
    )


def snapshot_ttl(config: Config, write: TaskWrite) -> int:
    """Return the seconds that the snapshot of a task lives."""
    if write.ttl is not None:
        return write.ttl
    return config.final_ttl if write.event.state.is_final else config.task_ttl


def publish_call(config: Config, write: TaskWrite, known_seq: int) -> Call:
    """Store a snapshot and publish its event; the publisher knows the task's ``known_seq`` (0: none)."""
    event, membership = write.event, write.membership
    is_member = event.root_id is not None and membership is not None
    return _on_task(PUBLISH, config, user_topic(write.user_id), event.task_id)(
        state=event.state.value,
        pinned=int(write.pinned or event.state.is_final),
        published_at=repr(float(-event.created_at if write.is_again else event.created_at)),
        retry_number=event.attempt,
        delivery=write.delivery,
        is_handed_over=int(write.is_handed_over),
        at=repr(float(event.at)),
        known_seq=max(event.seq, known_seq),
        volatile_json=event.volatile_json(),
        stable_json=event.stable_json(),
        ttl=snapshot_ttl(config, write),
        max_tasks=config.max_tasks,
        workflow_id=escape_id(event.root_id) if is_member and event.root_id else "",
        membership=membership.to_argument(event.name) if is_member and membership else "",
        bare_json=_BARE_JSON,
    )


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
    End a task on behalf of its process. The rest of its event stays as reported last.

    Args:
        config: Prefix and lifetimes.
        topic: Topic of its user.
        task_id: The task.
        state: A final state, or RETRY.
        error: The error that its user sees.
        delivery: The delivery that has ended; empty for a waiting task.
        run_at: Unix seconds at which the next attempt begins; ``None``: at once, or never.
        least: A task below this state continues.

    Returns:
        A call that returns what ``end.lua`` does: accepted or refused by the rules of :mod:`jobpush.lifecycle`.
    """
    now = time.time()
    delay = max(0.0, (run_at or 0.0) - now)
    event = TaskEvent(task_id, state, error=error, run_at=run_at if delay else None)
    # A LOST task may be redelivered much later, and then continues the same bar.
    ttl = config.task_ttl + int(delay) if state in (TaskState.LOST, TaskState.RETRY) else config.final_ttl
    return _on_task(END, config, topic, task_id)(
        state=state.value,
        delivery=delivery,
        least=least.value,
        at=repr(now),
        volatile_json=event.volatile_json(),
        ttl=ttl,
        bare_json=_BARE_JSON,
    )


def regain_call(config: Config, topic: Topic, task_id: str, delivery: str) -> Call:
    """Undo LOST if the task is still LOST: a call that returns 1 then."""
    return _on_task(REGAIN, config, topic, task_id)(
        delivery=delivery,
        at=repr(time.time()),
        volatile_json=TaskEvent(task_id, TaskState.RECEIVED).volatile_json(),
        ttl=config.task_ttl,
    )


def cancel_call(config: Config, topic: Topic, task_id: str) -> Call:
    """Mark a task as cancelled: a call that returns the state after it."""
    return _on_task(CANCEL, config, topic, task_id)(at=repr(time.time()), bare_json=_BARE_JSON)


def publish_workflow_call(config: Config, topic: Topic, task_id: str, *, is_urgent: bool = False) -> Call:
    """
    Publish the pending changes of a workflow; ignore a task that is not a workflow.

    Args:
        config: Prefix and lifetimes.
        topic: Topic of its user.
        task_id: The workflow.
        is_urgent: Whether it is published even if it was a moment ago.

    Returns:
        A call that returns 1 if it is still pending.
    """
    return _on_task(PUBLISH_WORKFLOW, config, topic, task_id)(at=repr(time.time()), is_urgent=int(is_urgent))


def own_call(config: Config, task_id: str, user_id: str, ttl: int) -> Call:
    """Keep the owner of a workflow for at least ``ttl`` seconds."""
    return OWN([Keys.of(config).owner(task_id)], user_id=escape_id(user_id), ttl=ttl)


def history_call(
    config: Config, channel: str, topic: Topic, since: str = "", *, start: int = 0, limit: int | None = None
) -> Call:
    """
    Read the history for a new subscriber.

    Args:
        config: Prefix and lifetimes.
        channel: Name of the channel.
        topic: The topic that feeds it.
        since: Stream id of the last event that the subscriber has; empty: none.
        start: Tasks of a user to leave out, in the order of the list.
        limit: Tasks of a user to read; ``None``: as configured.

    Returns:
        A call that returns ``[position, resumed, messages]``, see ``history.lua``.
    """
    keys, task_id = Keys.of(config), parse_channel(channel).task_id
    if task_id is not None:
        kind, source = "task", keys.task(topic, unescape_id(task_id))
    elif topic.startswith("user:"):
        kind, source = "user", keys.tasks(topic)
    else:
        kind, source = "channel", keys.cache(topic)
    return HISTORY(
        (keys.stream(topic), keys.floor(topic), source),
        kind=kind,
        since=since,
        task_prefix=keys.task_prefix(topic),
        start=start,
        limit=config.tasks_per_page if limit is None else limit,
        history_ttl=config.history_ttl,
    )
