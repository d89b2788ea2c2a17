"""Arguments and results of the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from ..events import TaskEvent


class Outcome(IntEnum):
    """The outcome of a publish."""

    STORED = 1
    STALE = 0
    CANCELLED = -1


@dataclass(frozen=True, slots=True)
class Membership:
    """
    The place of a task in a workflow; the workflow's id is the ``root_id`` of its events.

    Args:
        branch: The path of its branch: the outer branches and its own, each with its number of planned members:
            ``"0:12/3:2"``.
        is_planned: Whether the plan counts it.
        weight: Its share of the bar; ``None``: the workflow's weight for tasks of its name.
    """

    branch: str
    is_planned: bool = False
    weight: float | None = None

    def to_argument(self, name: str) -> str:
        """Return the form that ``workflow.lua`` reads, with Celery's name of the task."""
        weight = "-" if self.weight is None else repr(float(self.weight))
        return f"{self.branch} {int(self.is_planned)} {weight} {name}"


@dataclass(frozen=True, slots=True)
class WorkflowPlan:
    """
    The plan of a workflow, known when it begins.

    Args:
        members: Number of tasks in the canvas.
        weight: Their weights together.
        weights: Weights of further tasks, by name; 1 by default.
    """

    members: int
    weight: float
    weights: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskWrite:
    """
    One event to store and publish.

    Args:
        user_id: Owner of the task.
        event: The event; its ``seq`` is the last one that the publisher knows (0: none).
        pinned: Whether readers must not skip it; set for the first and the last event of an attempt.
        ttl: Seconds until the snapshot expires; ``None``: as configured.
        delivery: The delivery of the message that reports it, see :mod:`jobpush.lifecycle`; empty: unknown.
        worker: The worker that has the message. RECEIVED and STARTED claim it, the end of the attempt releases it;
            empty: no worker with a lease.
        is_handed_over: Whether another task has replaced this one and continues its bar.
        membership: Its place in the workflow ``root_id`` of the event; ``None``: as stored, or none.
        plan: The plan of a workflow, with its first event; ``None``: an ordinary event.
        is_again: Whether it belongs to the stored run, if there is one, for any ``created_at``.
        notifies_end: Whether the publisher keeps the end in the user's inbox.
    """

    user_id: str
    event: TaskEvent
    pinned: bool = False
    ttl: int | None = None
    delivery: str = ""
    worker: str = ""
    is_handed_over: bool = False
    membership: Membership | None = None
    plan: WorkflowPlan | None = None
    is_again: bool = False
    notifies_end: bool = False


@dataclass(frozen=True, slots=True)
class Published:
    """
    The result of one write.

    Args:
        outcome: Whether it was stored.
        seq: Of the event; of the stored one if it was refused.
        is_cancelled: Whether the task is cancelled.
        has_pending_workflow: Whether its workflow was published a moment ago, so that a call of
            :meth:`~jobpush.store.tasks.TaskStore.publish_workflows` must publish this change.
    """

    outcome: Outcome
    seq: int
    is_cancelled: bool
    has_pending_workflow: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    """
    The result of a notification.

    Args:
        ids: Stream ids by channel.
        by_channel: Connections that received it, by channel.
    """

    ids: Mapping[str, str]
    by_channel: Mapping[str, int]

    @property
    def connections(self) -> int:
        """Number of connections; one that is subscribed to two of the channels counts twice."""
        return sum(self.by_channel.values())


class Notification(NamedTuple):
    """
    One event for any number of channels. All names are valid.

    ``data`` is text, or any value with a JSON form; the connection with the ``socket_id`` ``exclude`` does not get it.
    """

    channels: Iterable[str]
    event: str
    data: object
    exclude: str | None = None
