"""How a workflow begins in Redis, and which tasks are its members. What these add up to is kept by ``workflow.lua``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..channels import Topic, escape_id
from ..config import Config
from ..events import TaskEvent, encode_twice
from .keys import Keys
from .scripts import Call, Command, load_of_task


@dataclass(frozen=True, slots=True)
class Membership:
    """
    The place of a task in a workflow; the workflow's id is the ``root_id`` of its events.

    Args:
        branch: The branch it stands and falls with, after those around it, each with the number of members that were
            planned in it: ``"0:12/3:2"``.
        is_planned: Whether it was counted when the workflow began.
        weight: Its part of the bar; ``None``: what the workflow has for tasks of its name.
    """

    branch: str
    is_planned: bool = False
    weight: float | None = None

    def to_argument(self, name: str) -> str:
        """The form in which ``workflow.lua`` reads it, with Celery's name of the task."""
        weight = "-" if self.weight is None else repr(float(self.weight))
        return f"{self.branch} {int(self.is_planned)} {weight} {name}"


@dataclass(frozen=True, slots=True)
class WorkflowPlan:
    """
    What is known of a workflow when it begins.

    Args:
        members: How many tasks it will have, as far as the canvas tells.
        weight: What they weigh together.
        weights: Weights of further ones, by name of the task; 1 where there is none.
    """

    members: int
    weight: float
    weights: Mapping[str, float] = field(default_factory=dict)


#: What an event of a workflow gets in Redis, with all that comes from its members.
_MADE_IN_REDIS = ("seq", "state", "at", "attempt", "current", "total", "percent", "started_at", "error", "data")


def begin_commands(config: Config, topic: Topic, event: TaskEvent, plan: WorkflowPlan) -> list[Command]:
    """Commands that begin a workflow, whose first ``event`` they follow. Done twice, they do no harm."""
    key = Keys(config.prefix).workflow(topic, event.task_id)
    head = {name: value for name, value in event.to_wire().items() if name not in _MADE_IN_REDIS}
    fields: dict[str, str | float] = {
        "head": encode_twice(head)[1:-1],
        "planned": plan.members,
        "planned_weight": repr(float(plan.weight)),
        "interval": int(config.min_interval * 1000),
        "ttl": config.task_ttl,
        "final_ttl": config.final_ttl,
        **{f"w:{name}": repr(float(weight)) for name, weight in plan.weights.items()},
    }
    words = [word for pair in fields.items() for word in pair]
    return [("HSET", key, *words), ("EXPIRE", key, config.task_ttl)]


def tell_call(config: Config, topic: Topic, task_id: str, *, is_urgent: bool = False) -> Call:
    """
    Have a workflow tell what it has left to tell; nothing happens where the task is none.

    Args:
        config: Prefix, and how long things live.
        topic: Of its user.
        task_id: Of the workflow.
        is_urgent: Whether it is to tell it although it told something a moment ago.

    Returns:
        A call that gives 1 if it is still to be told.
    """
    arguments = (escape_id(task_id), repr(time.time()), config.history_size, config.history_ttl, int(is_urgent))
    return Call(load_of_task("publish_workflow"), Keys(config.prefix).of_task(topic, task_id), arguments)
