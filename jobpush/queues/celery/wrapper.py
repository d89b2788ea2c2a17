"""The wrapper around a tracked task: it runs right before and after the task's code, in the same process."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from celery.exceptions import Ignore, SoftTimeLimitExceeded

from ...errors import TaskCancelled
from ...events import TaskState
from ...reporting.capture import capture_from
from ...reporting.identity import TaskIdentity, new_delivery
from ...reporting.progress import current_progress, progress, running
from ...reporting.queue_hooks import interruptions, is_running_untracked_task
from ...reporting.running_task import RunningTask
from ...reporting.services import Services
from .compat import current_task, request_of
from .headers import inherit, read_headers, stamp, to_headers
from .track_options import TrackOptions, attach
from .unusual_ends import publish_unusual_end
from .update_state import report_update_state

logger = logging.getLogger(__name__)

interruptions.append(SoftTimeLimitExceeded)
is_running_untracked_task.append(lambda: current_task() is not None)

#: Attribute of a task's request that holds its RunningTask, for the signals that come after the wrapper.
_ATTRIBUTE = "jobpush_running"


def tracked_function(options: TrackOptions, function: Callable[..., Any]) -> Callable[..., Any]:
    """
    Wrap the function of a task.

    Returns:
        A function with the name and the signature of ``function``. Called directly, it behaves like ``function``.
    """

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        task = current_task()
        request = request_of(task) if task is not None else None
        if request is None or request.called_directly or _is_inside(request):
            return function(*args, **kwargs)
        this = _begin(options, task, request)
        if this is None:
            return function(*args, **kwargs)
        with running(this):
            try:
                progress.raise_if_cancelled()
                return function(*args, **kwargs)
            except TaskCancelled:
                this.finish(TaskState.REVOKED)
                _mark_revoked(task)
                # A pool process does not survive a foreign BaseException, but handles Ignore.
                raise Ignore(f"{this.tracked.task_id} was cancelled by its user") from None
            except BaseException as exc:
                publish_unusual_end(this, options, task, exc)
                raise

    # Celery checks calls by getfullargspec, which does not follow __wrapped__.
    wrapper.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    attach(options, wrapper)
    return wrapper


def running_of(request: Any) -> RunningTask | None:
    """Return the tracked task of a request; ``None`` if it is not tracked."""
    return getattr(request, _ATTRIBUTE, None)


def headers_of(request: Any) -> dict[str, Any]:
    """Return the headers of a running task's message. An eager task has them in one place only."""
    return {**(request.headers or {}), **vars(request)}


def _is_inside(request: Any) -> bool:
    """Whether this task already runs, because it calls itself as a function."""
    current = current_progress()
    return current is not None and current is running_of(request)


def _begin(options: TrackOptions, task: Any, request: Any) -> RunningTask | None:
    """Publish that the task has started; ``None`` if it has no user, or an error of jobpush prevents it."""
    try:
        if options.adopt:
            report_update_state(task, options.runtime)
        tracked = _identify(options, task, request)
        this = _start(options.runtime, request, tracked, options.notifies_end) if tracked is not None else None
        if this is not None and options.capture:
            this.captures = True
            capture_from("celery.task")  # it does not propagate in a worker
        return this
    except SoftTimeLimitExceeded:  # a time limit of the task, raised during the Redis call
        raise
    except Exception:  # a wrong setting or a bug: progress may fail, the task may not
        logger.exception("task %s runs without its progress being published", task.name)
        return None


def _identify(options: TrackOptions, task: Any, request: Any) -> TaskIdentity | None:
    headers = headers_of(request)
    tracked = read_headers(headers, task)
    if tracked is None:  # it runs eagerly, so it was not published
        parent = current_progress()
        if parent is not None:
            inherit(headers, to_headers(parent.tracked))
        tracked = options.identify(task, request.args or (), request.kwargs or {}, headers)
        if tracked is not None:
            request.headers = dict(request.headers or {})
            stamp(tracked, request.headers)  # so that a retry continues the same bar
    return tracked


def _start(runtime: Services, request: Any, tracked: TaskIdentity, notifies_end: bool) -> RunningTask:
    if not tracked.delivery:  # it runs eagerly, or was received by a worker without jobpush
        before = running_of(request)  # its base class runs it again: the attempt is the same
        tracked = replace(tracked, delivery=before.tracked.delivery if before is not None else new_delivery())
    tracked = replace(tracked, notifies_end=notifies_end)
    this = RunningTask(tracked, runtime.publisher, runtime.config, runtime.clock)
    setattr(request, _ATTRIBUTE, this)
    runtime.running.add(this)
    if request.is_eager:
        _publish_skipped_states(runtime, tracked)
    # The reply also cancels a task that was cancelled while it waited. Cancels are received since before this call, so
    # none is missed.
    runtime.publisher.start(this)
    return this


def _publish_skipped_states(runtime: Services, tracked: TaskIdentity) -> None:
    """Publish the states that an eager task skips: it is not published, and no worker receives it."""
    skipped = (TaskState.PENDING, TaskState.RECEIVED) if tracked.attempt == 1 else (TaskState.RECEIVED,)
    task_ttl, now = runtime.config.task_ttl, runtime.clock.time()
    runtime.publisher.publish_now([tracked.write(tracked.event(state, at=now), task_ttl=task_ttl) for state in skipped])


def _mark_revoked(task: Any) -> None:
    """Store REVOKED for callers that wait for the result, and for the chord. Celery stores nothing after Ignore."""
    request = task.request
    try:
        task.backend.mark_as_revoked(
            request.id, "cancelled", request=request, store_result=not (request.ignore_result or request.is_eager)
        )
    except Exception:  # the result backend may be unreachable; the task has ended anyway
        logger.exception("the result backend could not store that task %s was cancelled", request.id)
