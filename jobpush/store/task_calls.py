"""Calls of the scripts that read and change tasks, for any client."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from ..channels import Topic, escape_id, parse_channel, user_topic
from ..config import Config
from ..events import TaskEvent, encode_twice
from ..lifecycle import TaskState
from .keys import Keys
from .records import TaskWrite
from .scripts import CANCEL, END, HISTORY, OWN, PUBLISH, PUBLISH_WORKFLOW, REGAIN, Call, Command, Script

#: Volatile fields of an attempt that another process ends: all are unknown.
_BARE_JSON = TaskEvent("", TaskState.LOST).volatile_json()
#: Fields of a workflow's event that Redis computes from its members.
_MADE_IN_REDIS = ("seq", "state", "at", "attempt", "current", "total", "percent", "started_at", "error", "data")


class TaskCalls:
    """The calls below one prefix."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.keys = Keys.of(config)

    def _on_task(self, script: Script, topic: Topic, task_id: str) -> Callable[..., Call]:
        """Return a script with its keys for one task, and with the settings that all of them take."""
        return partial(
            script,
            self.keys.of_task(topic, task_id),
            task_id=escape_id(task_id),
            final_ttl=self.config.final_ttl,
            history_size=self.config.history_size,
            history_ttl=self.config.history_ttl,
        )

    def snapshot_ttl(self, write: TaskWrite) -> int:
        """Return the seconds that the snapshot of a task lives."""
        if write.ttl is not None:
            return write.ttl
        return self.config.final_ttl if write.event.state.is_final else self.config.task_ttl

    def publish(self, write: TaskWrite, known_seq: int) -> Call:
        """Store a snapshot and publish its event; the publisher knows the task's ``known_seq`` (0: none)."""
        event, membership = write.event, write.membership
        is_member = event.root_id is not None and membership is not None
        return self._on_task(PUBLISH, user_topic(write.user_id), event.task_id)(
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
            ttl=self.snapshot_ttl(write),
            max_tasks=self.config.max_tasks,
            workflow_id=escape_id(event.root_id) if is_member and event.root_id else "",
            membership=membership.to_argument(event.name) if is_member and membership else "",
            bare_json=_BARE_JSON,
        )

    def end(
        self,
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
        ttl = self.config.task_ttl + int(delay) if state in (TaskState.LOST, TaskState.RETRY) else self.config.final_ttl
        return self._on_task(END, topic, task_id)(
            state=state.value,
            delivery=delivery,
            least=least.value,
            at=repr(now),
            volatile_json=event.volatile_json(),
            ttl=ttl,
            bare_json=_BARE_JSON,
        )

    def regain(self, topic: Topic, task_id: str, delivery: str) -> Call:
        """Undo LOST if the task is still LOST: a call that returns 1 then."""
        return self._on_task(REGAIN, topic, task_id)(
            delivery=delivery,
            at=repr(time.time()),
            volatile_json=TaskEvent(task_id, TaskState.RECEIVED).volatile_json(),
            ttl=self.config.task_ttl,
        )

    def cancel(self, topic: Topic, task_id: str) -> Call:
        """Mark a task as cancelled: a call that returns the state after it."""
        return self._on_task(CANCEL, topic, task_id)(at=repr(time.time()), bare_json=_BARE_JSON)

    def publish_workflow(self, topic: Topic, task_id: str, *, is_urgent: bool = False) -> Call:
        """
        Publish the pending changes of a workflow; ignore a task that is not a workflow.

        Args:
            topic: Topic of its user.
            task_id: The workflow.
            is_urgent: Whether it is published even if it was a moment ago.

        Returns:
            A call that returns 1 if it is still pending.
        """
        return self._on_task(PUBLISH_WORKFLOW, topic, task_id)(at=repr(time.time()), is_urgent=int(is_urgent))

    def begin_workflow(self, write: TaskWrite) -> list[Command]:
        """Return the commands that begin a workflow, to be run before its first event; none for others. Idempotent."""
        event, plan = write.event, write.plan
        if plan is None:
            return []
        key = self.keys.workflow(user_topic(write.user_id), event.task_id)
        head = {name: value for name, value in event.to_wire().items() if name not in _MADE_IN_REDIS}
        fields: dict[str, str | float] = {
            "head": encode_twice(head)[1:-1],
            "planned": plan.members,
            "planned_weight": repr(float(plan.weight)),
            "interval": int(self.config.min_interval * 1000),
            "ttl": self.config.task_ttl,
            "final_ttl": self.config.final_ttl,
            **{f"w:{name}": repr(float(weight)) for name, weight in plan.weights.items()},
        }
        words = [word for pair in fields.items() for word in pair]
        return [("HSET", key, *words), ("EXPIRE", key, self.config.task_ttl)]

    def own(self, task_id: str, user_id: str, ttl: int) -> Call:
        """Keep the owner of a workflow for at least ``ttl`` seconds."""
        return OWN([self.keys.owner(task_id)], user_id=escape_id(user_id), ttl=ttl)

    def history(self, channel: str, topic: Topic, since: str = "", *, start: int = 0, limit: int | None = None) -> Call:
        """
        Read the history for a new subscriber.

        Args:
            channel: Name of the channel.
            topic: The topic that feeds it.
            since: Stream id of the last event that the subscriber has; empty: none.
            start: Tasks of a user to leave out, in the order of the list.
            limit: Tasks of a user to read; ``None``: as configured.

        Returns:
            A call that returns ``[position, resumed, messages]``, see ``history.lua``.
        """
        task_id = parse_channel(channel).task_id
        kind = "task" if task_id is not None else "user" if topic.startswith("user:") else "channel"
        return HISTORY(
            self.keys.of_history(topic, task_id),
            kind=kind,
            since=since,
            task_prefix=self.keys.task_prefix(topic),
            start=start,
            limit=self.config.tasks_per_page if limit is None else limit,
            history_ttl=self.config.history_ttl,
        )
