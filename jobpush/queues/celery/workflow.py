"""``track_workflow()``: one bar for all the tasks of a canvas, with or without a result backend."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celery.canvas import Signature

from ...events import TaskState
from ...reporting.identity import TaskIdentity
from ...reporting.services import Services
from ...store import TaskWrite
from .canvas import PlannedCanvas
from .decorator import track_task
from .headers import ROOT_HEADER, USER_HEADER
from .publishing import CHORD_UNLOCK, withdrawn
from .track_options import TrackOptions, options_of

#: The name of every workflow, and its default title.
WORKFLOW = "jobpush.workflow"


class TrackedWorkflow:
    """
    A canvas with one bar for all of its tasks. Made by ``JobPush.track_workflow()``.

    Args:
        app: The Celery app.
        runtime: Of its JobPush.
        canvas: A signature, or a callable that makes one.
        user_id: The user that sees it.
        title: What the user reads.
        weights: By name of the task; 1 where there is none.
    """

    def __init__(
        self,
        app: Any,
        runtime: Services,
        canvas: Signature | Callable[..., Signature],
        *,
        user_id: str,
        title: str | None,
        weights: Mapping[str, float],
    ) -> None:
        self._app = app
        self._runtime = runtime
        self._canvas = canvas
        self._user_id = user_id
        self._title = title or WORKFLOW
        self._weights = weights
        #: Id of the bar: of the next call, then of the last one.
        self.task_id = str(uuid.uuid4())
        self._is_begun = False

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        """Publish the canvas, and return the result of its own ``delay()``."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """
        Publish the canvas.

        Args:
            args: For the canvas, which passes them to its first tasks; or for the callable that makes it.
            kwargs: The same by name.
            options: Of the canvas's own ``apply_async()``.

        Returns:
            The result of that.
        """
        canvas, args, kwargs = self._made(args or (), kwargs or {})
        tracked = self._begin()
        headers = {**options.pop("headers", {}), USER_HEADER: self._user_id, ROOT_HEADER: tracked.task_id}
        planned = PlannedCanvas(canvas, headers, self._weights)
        if self._app.conf.task_always_eager:
            follow_all_tasks(self._app, self._runtime)  # they run here, where no worker has wrapped them
        event = tracked.event(TaskState.PENDING, at=self._runtime.clock.time())
        first = TaskWrite(self._user_id, event, pinned=True, ttl=self._runtime.config.task_ttl, plan=planned.plan)
        self._runtime.publisher.publish_now([first])
        try:
            result = planned.canvas.apply_async(args, kwargs, **options)
        except Exception:
            self._runtime.publisher.submit(withdrawn(first, self._runtime.clock.time()))
            raise
        if not planned.plan.members:
            self._runtime.publisher.publish_workflow(self._user_id, tracked.task_id)  # no worker will
        return result

    def _made(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Signature, Sequence[Any], Mapping[str, Any]]:
        if isinstance(self._canvas, Signature):
            return self._canvas, args, kwargs
        return self._canvas(*args, **kwargs), (), {}

    def _begin(self) -> TaskIdentity:
        if self._is_begun:
            self.task_id = str(uuid.uuid4())
        self._is_begun = True
        return TaskIdentity(self.task_id, self._user_id, WORKFLOW, self._title, created_at=self._runtime.published_at())


def follow_all_tasks(app: Any, runtime: Services) -> None:
    """Track the tasks of an app without ``track()`` too, if they are members of a workflow."""
    options = TrackOptions(runtime, is_for_members=True)
    for name, task in app.tasks.items():
        if options_of(task) is None and name != CHORD_UNLOCK:
            track_task(options, task)
