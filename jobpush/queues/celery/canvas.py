"""The tasks of a canvas as members of a workflow, and the branches that fail together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

from celery.canvas import Signature, chunks, group, maybe_signature, xmap, xstarmap

from ...store import WorkflowPlan
from .headers import BRANCH_HEADER, PLANNED_HEADER, WEIGHT_HEADER


def is_chain(canvas: Any) -> bool:
    """Whether a signature is a chain; also one that was deserialized, which is no ``celery.chain``."""
    return isinstance(canvas, Signature) and canvas.task == "celery.chain"


def is_chord(canvas: Any) -> bool:
    """Whether a signature is a chord."""
    return isinstance(canvas, Signature) and canvas.task == "celery.chord"


class PlannedCanvas:
    """
    A copy of a canvas, each task of which carries its place in a workflow.

    Celery hands its own headers from step to step only to some tasks, but each signature's to its own task, also to
    one that a worker publishes later. So the place stands in the signatures.

    The tasks form branches. A branch is what stands and falls together: the links of a chain, the header and the body
    of a chord, a group that something follows. If one of its tasks fails, its others are not waited for, for
    some of them will never run. The members of a group that nothing follows are branches of their own, within the one
    around them, and go on whatever becomes of each other::

        chain(probe, group(encode | check, thumbnail))

        0:4 probe ─┬─ 0:4/1:2 encode, check
                   └─ 0:4/2:1 thumbnail
    """

    def __init__(self, canvas: Any, headers: Mapping[str, Any], weights: Mapping[str, float]) -> None:
        """
        Args:
            canvas: Any signature.
            headers: Of each of its tasks; those that it has itself count for more.
            weights: By name of the task; 1 where there is none. A header ``jobpush_weight`` counts for more.
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
        """The plan of the workflow, before it begins."""
        return WorkflowPlan(self._members, self._weight, self._weights)

    def _branch(self, path: str, canvas: Any) -> str:
        own = f"{next(self._numbers)}:{_size(canvas)}"
        return f"{path}/{own}" if path else own

    def _place(self, canvas: Any, path: str, *, is_last: bool) -> None:
        """Put the tasks of ``canvas`` into a branch; ``is_last``: nothing follows them there."""
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
    """A copy down to each task, for a signature may be used many times. What is no signature any more becomes one."""
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
    """``map`` and ``starmap`` as the one task that they are: Celery 5.4 forgets the options of their own signatures."""
    options = {"route_name": canvas.kwargs["task"]["task"], **canvas.options}
    kwargs = {**canvas.kwargs, "it": list(canvas.kwargs["it"])}
    return Signature(canvas.task, (), kwargs, options, immutable=True, app=canvas.app)


def _parts(canvas: Any) -> list[Any]:
    """The parts of a chain or chord, each of which waits for the one before; the members of a header wait together."""
    return list(canvas.tasks) if is_chain(canvas) else [*canvas.tasks, canvas.body]


def _size(canvas: Any) -> int:
    if isinstance(canvas, group):
        return sum(map(_size, canvas.tasks))
    if is_chain(canvas) or is_chord(canvas):
        return sum(map(_size, _parts(canvas)))
    return 1
