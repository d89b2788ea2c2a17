"""The tasks of a canvas as members of a workflow, and the branches that fail together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

from celery.canvas import Signature, chunks, group, maybe_signature, xmap, xstarmap

from ...store import WorkflowPlan
from .headers import BRANCH_HEADER, PLANNED_HEADER, WEIGHT_HEADER


def is_chain(canvas: Any) -> bool:
    """Whether a signature is a chain, also a deserialized one, which is not a ``celery.chain``."""
    return isinstance(canvas, Signature) and canvas.task == "celery.chain"


def is_chord(canvas: Any) -> bool:
    """Whether a signature is a chord."""
    return isinstance(canvas, Signature) and canvas.task == "celery.chord"


class PlannedCanvas:
    """
    A copy of a canvas in which each task carries its place in a workflow.

    Celery passes the headers of the canvas to some tasks only, but the headers of a signature to its own task, also if
    a worker publishes it later. So each signature has its place.

    The tasks form branches. A branch contains the tasks that fail together: those of a chain, the header and body of a
    chord, a group with a following task. If one task of a branch fails, the workflow does not wait for the others,
    since some of them will never run. The members of a final group are branches of their own within the outer branch,
    independent of each other::

        chain(probe, group(encode | check, thumbnail))

        0:4 probe ─┬─ 0:4/1:2 encode, check
                   └─ 0:4/2:1 thumbnail
    """

    def __init__(self, canvas: Any, headers: Mapping[str, Any], weights: Mapping[str, float]) -> None:
        """
        Args:
            canvas: Any signature.
            headers: Headers of each of its tasks; a task's own headers take precedence.
            weights: Weights by task name; 1 by default. A header ``jobpush_weight`` takes precedence.
        """
        self.canvas = _copied(canvas)
        self._headers = headers
        self._weights = weights
        self._numbers = count()
        self._members = 0
        self._weight = 0.0
        self._place(self.canvas, self._branch("", self.canvas), is_last=True)

    @property
    def plan(self) -> WorkflowPlan:
        """Return the plan of the workflow before it begins."""
        return WorkflowPlan(self._members, self._weight, self._weights)

    def _branch(self, path: str, canvas: Any) -> str:
        own = f"{next(self._numbers)}:{_size(canvas)}"
        return f"{path}/{own}" if path else own

    def _place(self, canvas: Any, path: str, *, is_last: bool) -> None:
        """Put the tasks of ``canvas`` into a branch; ``is_last``: no task follows them there."""
        if isinstance(canvas, group):
            for task in canvas.tasks:
                self._place(task, self._branch(path, task) if is_last else path, is_last=is_last)
        elif is_chain(canvas) or is_chord(canvas):
            *before, last = _parts(canvas)
            for part in before:
                self._place(part, path, is_last=False)
            self._place(last, path, is_last=is_last)
        else:
            self._stamp(canvas, path)

    def _stamp(self, task: Any, path: str) -> None:
        given = {**self._headers, **(task.options.get("headers") or {})}
        weight = float(given.get(WEIGHT_HEADER, self._weights.get(task.task, 1.0)))
        place = {BRANCH_HEADER: path, PLANNED_HEADER: True, WEIGHT_HEADER: weight}
        task.options["headers"] = {**given, **place}
        self._members += 1
        self._weight += weight


def _copied(canvas: Any) -> Any:
    """
    Return a copy of all its tasks, since a signature may be used many times. Serialized signatures become objects.
    """
    if isinstance(canvas, chunks):
        return _copied(canvas.group())
    if isinstance(canvas, (xmap, xstarmap)):
        return _plain_map(canvas)
    copy = canvas.clone()
    if isinstance(copy, group) or is_chain(copy):
        copy.tasks = _all_copied(copy.tasks, copy.app)
    elif is_chord(copy):
        copy.tasks = _all_copied(copy.tasks, copy.app)
        (copy.body,) = _all_copied([copy.body], copy.app)
    return copy


def _all_copied(tasks: Iterable[Any], app: Any) -> list[Any]:
    return [_copied(maybe_signature(task, app)) for task in tasks]


def _plain_map(canvas: Any) -> Any:
    """Return ``map`` or ``starmap`` as one task: Celery 5.4 drops the options of their own signatures."""
    options = {"route_name": canvas.kwargs["task"]["task"], **canvas.options}
    kwargs = {**canvas.kwargs, "it": list(canvas.kwargs["it"])}
    return Signature(canvas.task, (), kwargs, options, immutable=True, app=canvas.app)


def _parts(canvas: Any) -> list[Any]:
    """Return the parts of a chain or chord, in order of execution; the members of a header run together."""
    return list(canvas.tasks) if is_chain(canvas) else [*canvas.tasks, canvas.body]


def _size(canvas: Any) -> int:
    if isinstance(canvas, group):
        return sum(map(_size, canvas.tasks))
    if is_chain(canvas) or is_chord(canvas):
        return sum(map(_size, _parts(canvas)))
    return 1
