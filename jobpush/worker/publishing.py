"""What happens when a task is published: it is on its user's screen before it is in the broker's queue."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import MutableMapping, Sequence
from dataclasses import replace
from typing import Any

from celery import current_task

from ..events import TaskState
from ..store import TaskWrite
from .edge import headers_of, running_of
from .registry import Sending, current_sending, runtime_of, sending
from .runtime import Runtime
from .tracked import CREATED_HEADER, USER_HEADER, TrackedTask, eta_of, read_headers
from .tracking import Tracking, tracking_of

#: What a user reads of a task that the broker did not take.
NOT_QUEUED = "The task could not be queued"


def wrap_send_task(app: Any) -> None:
    """
    Have ``app.send_task`` withdraw a task that the broker refused.

    Celery has a signal before a message is sent and one after, but none for a failure; and all that publishes
    a task (``delay``, canvas, ``retry``, beat) goes through this method of the app.
    """
    original = app.send_task

    @functools.wraps(original)
    def send_task(*args: Any, **kwargs: Any) -> Any:
        with sending(app) as this:
            try:
                return original(*args, **kwargs)
            except Exception:
                if this.withdraw is not None:
                    this.withdraw()
                raise

    app.send_task = send_task


def before_task_publish(
    sender: str | None = None, headers: MutableMapping[str, Any] | None = None, body: Any = None, **kwargs: Any
) -> None:
    """Signal: find out whose task it is, stamp the message, and tell the user."""
    this = current_sending()
    app_runtime = runtime_of(this.app)
    if app_runtime is None or not headers or "id" not in headers:
        return  # no app of ours, or Celery's protocol 1, which has no headers
    task = this.app.tasks.get(headers["task"])
    tracking = tracking_of(task) if task is not None else None
    request = current_task.request if current_task else None
    if task is None:
        _publish_unknown(this, app_runtime, headers)
    elif tracking is None:
        return
    elif request is not None and request.id == headers["id"]:
        _publish_again(this, tracking, task, request, headers, body)
    else:
        _publish(this, tracking, task, request, headers, body)


def _publish(
    this: Sending, tracking: Tracking, task: Any, parent: Any, headers: MutableMapping[str, Any], body: Any
) -> None:
    """A task is published for the first time, by ``parent`` if a task does it."""
    user = headers.get(USER_HEADER) or (headers_of(parent).get(USER_HEADER) if parent is not None else None)
    tracked = tracking.identify(task, body[0], body[1], {**headers, USER_HEADER: user})
    if tracked is not None:
        _tell_pending(this, tracking.runtime, tracked, headers)


def _publish_unknown(this: Sending, runtime: Runtime, headers: MutableMapping[str, Any]) -> None:
    """A task whose code is not here: only the caller of ``send_task`` can say whose it is."""
    tracked = read_headers({**headers, CREATED_HEADER: time.time()})
    if tracked is not None:
        _tell_pending(this, runtime, tracked, headers)


def _publish_again(
    this: Sending, tracking: Tracking, task: Any, request: Any, headers: MutableMapping[str, Any], body: Any
) -> None:
    """A running task publishes itself: it is a retry, or it is replaced by another of the same id."""
    running = running_of(request)
    if running is None:
        return
    before = running.tracked
    headers.setdefault(USER_HEADER, before.user_id)  # a replaced task has lost its headers
    tracked = tracking.identify(task, body[0], body[1], headers)
    if tracked is None:
        return
    replace(tracked, title=before.title, created_at=before.created_at).stamp(headers)
    running.is_replaced = tracked.attempt == before.attempt
    if not running.is_replaced:
        # Told here, for the task_retry signal comes when the next attempt may have been received already.
        running.tracked = replace(before, eta=eta_of(headers))  # it lives at least until then
        reason = retry_reason(tracking, sys.exc_info()[1])
        _tell(this, tracking.runtime, running.last_words(TaskState.RETRY, error=reason))


def retry_reason(tracking: Tracking, exc: BaseException | None) -> str | None:
    """What the user is told of the exception that made a task try again."""
    return tracking.error_text(exc) if exc is not None else None


def _tell_pending(this: Sending, runtime: Runtime, tracked: TrackedTask, headers: MutableMapping[str, Any]) -> None:
    tracked = replace(tracked, eta=eta_of(headers))
    tracked.stamp(headers)
    _tell(this, runtime, [tracked.write(tracked.event(TaskState.PENDING), task_ttl=runtime.config.task_ttl)])


def _tell(this: Sending, runtime: Runtime, writes: Sequence[TaskWrite]) -> None:
    runtime.publisher.publish_now(writes)
    this.withdraw = lambda: runtime.publisher.submit(_withdrawn(writes[-1]))


def _withdrawn(told: TaskWrite) -> TaskWrite:
    event = replace(told.event, state=TaskState.REVOKED, error=NOT_QUEUED, at=time.time())
    return TaskWrite(told.user_id, event, is_pinned=True)
