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
from .registry import Sending, current_sending, sending
from .runtime import Runtime
from .tracked import CREATED_HEADER, USER_HEADER, TrackedTask, eta_of, read_headers
from .tracking import Tracking, tracking_of

#: What a user reads of a task that the broker did not take.
NOT_QUEUED = "The task could not be queued"


def wrap_send_task(app: Any, runtime: Runtime) -> None:
    """
    Have ``app.send_task`` withdraw a task that the broker refused.

    Celery has a signal before a message is sent and one after, but none for a failure; and all that publishes
    a task (``delay``, canvas, ``retry``, beat) goes through this method of the app.
    """
    original = app.send_task

    @functools.wraps(original)
    def send_task(*args: Any, **kwargs: Any) -> Any:
        with sending(app, runtime) as this:
            try:
                return original(*args, **kwargs)
            except Exception:
                if this.told is not None:
                    runtime.publisher.submit(_withdrawn(this.told))
                raise

    app.send_task = send_task


def before_task_publish(
    sender: str | None = None, headers: MutableMapping[str, Any] | None = None, body: Any = None, **kwargs: Any
) -> None:
    """Signal: find out whose task it is, stamp the message, and tell the user."""
    this = current_sending()
    if this is None or not headers or "id" not in headers:
        return  # no app of ours, or Celery's protocol 1, which has no headers
    request = _current_request()
    if request is not None and request.id == headers["id"]:
        _publish_again(this, request, headers, body)
        return
    tracked = _identify(this, headers, body, request)
    if tracked is not None:
        tracked.stamp(headers)
        tracked = replace(tracked, eta=eta_of(headers))
        write = tracked.write(tracked.event(TaskState.PENDING), task_ttl=this.runtime.config.task_ttl)
        _tell(this, [write])


def _publish_again(this: Sending, request: Any, headers: MutableMapping[str, Any], body: Any) -> None:
    """A running task publishes itself: it is a retry, or it is replaced by another of the same id."""
    running = running_of(request)
    if running is None:
        return
    before = running.tracked
    headers.setdefault(USER_HEADER, before.user_id)  # a replaced task has lost its headers
    tracked = _identify(this, headers, body, None)
    if tracked is None:
        return
    replace(tracked, title=before.title, created_at=before.created_at).stamp(headers)
    if tracked.attempt > before.attempt:
        # Told here, for the task_retry signal comes when the next attempt may have been received already.
        running.tracked = replace(before, eta=eta_of(headers))  # it lives at least until then
        reason = retry_reason(_tracking(this, headers), sys.exc_info()[1])
        _tell(this, running.last_words(TaskState.RETRY, error=reason))


def retry_reason(tracking: Tracking | None, exc: BaseException | None) -> str | None:
    """What the user is told of the exception that made a task try again."""
    return tracking.error_text(exc) if tracking is not None and exc is not None else None


def _tell(this: Sending, writes: Sequence[TaskWrite]) -> None:
    this.runtime.publisher.publish_now(writes)
    this.told = writes[-1]


def _withdrawn(told: TaskWrite) -> TaskWrite:
    event = replace(told.event, state=TaskState.REVOKED, error=NOT_QUEUED, at=time.time())
    return TaskWrite(told.user_id, event, is_pinned=True)


def _identify(this: Sending, headers: MutableMapping[str, Any], body: Any, parent: Any) -> TrackedTask | None:
    task = this.app.tasks.get(headers["task"])
    if task is None:
        return _identify_unknown(headers)
    tracking = tracking_of(task)
    if tracking is None:
        return None
    if not headers.get(USER_HEADER) and parent is not None:
        user = headers_of(parent).get(USER_HEADER)  # the task that publishes it
        headers = {**headers, USER_HEADER: user} if user else headers
    args, kwargs, _ = body
    return tracking.identify(task, args, kwargs, headers)


def _identify_unknown(headers: MutableMapping[str, Any]) -> TrackedTask | None:
    """A task whose code is not here; the caller of ``send_task`` says whose it is."""
    return read_headers({**headers, CREATED_HEADER: time.time()})


def _tracking(this: Sending, headers: MutableMapping[str, Any]) -> Tracking | None:
    task = this.app.tasks.get(headers["task"])
    return tracking_of(task) if task is not None else None


def _current_request() -> Any:
    return current_task.request if current_task else None
