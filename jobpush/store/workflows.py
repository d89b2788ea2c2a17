"""The plan and the members of a workflow in Redis. ``workflow.lua`` keeps their sums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..channels import Topic
from ..config import Config
from ..events import TaskEvent, encode_twice
from .keys import Keys
from .scripts import Command


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


#: Fields of a workflow's event that Redis computes from its members.
_MADE_IN_REDIS = ("seq", "state", "at", "attempt", "current", "total", "percent", "started_at", "error", "data")


def begin_commands(config: Config, topic: Topic, event: TaskEvent, plan: WorkflowPlan) -> list[Command]:
    """Return the commands that begin a workflow, to be run before its first ``event``. Idempotent."""
    key = Keys.of(config).workflow(topic, event.task_id)
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
