"""Publishing a task: its bar appears before its message is in the broker's queue."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import Any

from celery.app.task import Context
from celery.exceptions import SoftTimeLimitExceeded, WorkerLostError

from ...errors import ConfigurationError
from ...events import CodedText, TaskState
from ...reporting.identity import TaskIdentity
from ...reporting.progress import current_progress
from ...reporting.records import Ending
from ...reporting.services import Services
from ...store import TaskWrite
from .broker import is_redis
from .compat import current_task
from .expiry import expiry_timer_of
from .headers import (
    CREATED_HEADER,
    ROOT_HEADER,
    USER_HEADER,
    as_protocol_2,
    inherit,
    read_headers,
    stamp,
    time_of,
    to_headers,
)
from .queue_positions import publish_no_worker
from .registry import Sending, current_sending, runtime_of, sending
from .track_options import TrackOptions, options_of
from .worker_leases import leases_of
from .wrapper import headers_of, running_of

logger = logging.getLogger("jobpush")

#: Error text of a task that the broker refused.
NOT_QUEUED = CodedText("The task could not be queued", "not_queued")
#: Celery's own task that polls until the header of a chord has ended and publishes its body. It is no member of a
#: workflow; the body is.
CHORD_UNLOCK = "celery.chord_unlock"


def wrap_send_task(app: Any) -> None:
    """
    Have ``app.send_task`` withdraw a task that the broker refused.

    Celery has signals before and after a message is sent, but none for a failure. Everything that publishes a task
    (``delay``, canvas, ``retry``, beat) calls this method of the app.
    """
    original = app.send_task

    @functools.wraps(original)
    def send_task(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("task_id") is not None:
            kwargs["task_id"] = str(kwargs["task_id"])  # Celery cannot store the result of a uuid.UUID
        with sending(app) as this:
            try:
                result = original(*args, **kwargs)
            except Exception:
                if this.withdraw is not None:
                    this.withdraw()
                raise
            if this.time_limit is not None and not this.is_own:  # otherwise it would end although it still runs
                raise this.time_limit
            return result

    app.send_task = send_task


def before_task_publish(
    sender: str | None = None, headers: MutableMapping[str, Any] | None = None, body: Any = None, **kwargs: Any
) -> None:
    """Signal: find the user of the task, stamp the message, and publish PENDING."""
    this = current_sending()
    if is_redis(this.app):
        declared = kwargs.get("declare")
        this.queue = getattr(declared[0], "name", None) if declared else kwargs.get("routing_key")
    try:
        _before_publish(this, headers, body)
    except SoftTimeLimitExceeded as exc:  # Celery would only log it, and it is raised once
        this.time_limit = exc
    except ConfigurationError as exc:  # Celery would log it to a logger without a handler, for each task
        _log_once(f"tasks are published without progress: {exc}")


@functools.cache
def _log_once(text: str) -> None:
    logger.error(text)


def _before_publish(this: Sending, headers: MutableMapping[str, Any] | None, body: Any) -> None:
    app_runtime = runtime_of(this.app)
    if app_runtime is None or headers is None:
        return
    if isinstance(body, dict):  # message protocol 1: the worker merges its fields with the headers
        headers = as_protocol_2(headers, body)
        body = (body["args"], body["kwargs"], body)
    task = current_task()
    request = task.request if task is not None else None
    this.is_own = request is not None and str(request.id) == headers["id"]
    is_named = headers.get(USER_HEADER) is not None
    inherit(headers, _headers_of_publisher(this.app))
    if headers["task"] != CHORD_UNLOCK:
        _publish_tracked(this, app_runtime, request, headers, body, is_named=is_named)
    _give_errbacks_user(headers, body)


def _headers_of_publisher(app: Any) -> Mapping[str, Any]:
    """
    Return the headers of the task that publishes a message; empty outside of tasks.

    A task that is called as a function has none and uses those of its caller. For a thread with a copy of its task's
    context, only that context leads to the task; for an errback that a worker's parent calls as a function, only its
    first argument.
    """
    task, progress = app.current_worker_task, current_progress()
    if task is not None:
        return headers_of(task.request)
    if progress is not None:
        return to_headers(progress.tracked)
    running = current_task()
    arguments = (running.request.args if running is not None else None) or [None]
    return headers_of(arguments[0]) if isinstance(arguments[0], Context) else {}


def _publish_tracked(
    this: Sending, runtime: Services, request: Any, headers: MutableMapping[str, Any], body: Any, *, is_named: bool
) -> None:
    """
    Publish the task if it has a user.

    ``is_named``: whether the caller set the user; a task without code in this process gets it from there, or from the
    publishing task.
    """
    task = this.app.tasks.get(headers["task"])
    is_member = bool(headers.get(ROOT_HEADER))
    if task is None:
        if is_named or is_member:
            tracked = read_headers({**headers, CREATED_HEADER: runtime.published_at()})
            _publish_pending(this, runtime, tracked, headers)
        return
    options = options_of(task)
    if options is None and is_member:
        options = TrackOptions(runtime, is_for_members=True)
    if options is None:
        return
    if this.is_own:
        _publish_again(this, options, task, request, headers, body)
    elif request is None and headers.get("retries") and (before := leases_of(runtime).tracked_of(headers["id"])):
        _publish_for_dead_process(options, task, before, headers, body)
    else:
        _publish_pending(this, options.runtime, options.identify(task, body[0], body[1], headers), headers)


def _give_errbacks_user(headers: MutableMapping[str, Any], body: Any) -> None:
    """
    Add the user of a task to its errbacks. If its process dies, the worker's parent publishes them, outside of any task
    to inherit from.
    """
    embedded = body[2]
    if embedded.get("errbacks") and headers.get(USER_HEADER):
        embedded["errbacks"] = [_with_user(signature, headers) for signature in embedded["errbacks"]]


def _with_user(signature: Mapping[str, Any], headers: Mapping[str, Any]) -> dict[str, Any]:
    options = signature.get("options") or {}
    own = dict(options.get("headers") or {})
    inherit(own, headers)
    return {**signature, "options": {**options, "headers": own}}  # a copy: the caller may use it for other users


def _publish_again(
    this: Sending, options: TrackOptions, task: Any, request: Any, headers: MutableMapping[str, Any], body: Any
) -> None:
    """Publish a task from its own code: a retry, or a replacement with the same id."""
    running = running_of(request)
    if running is None:
        return
    before = running.tracked
    tracked = _stamp_again(options, task, before, headers, body)
    if tracked is None:
        return
    if tracked.attempt > before.attempt:
        # Before the task_retry signal: by then a worker may have received the next attempt.
        running.will_retry = True
        running.tracked = replace(before, eta=time_of(headers, "eta"))  # keep the snapshot at least until then
        exc = sys.exc_info()[1]
        reason = None if exc is None else options.error_text(exc)
        _publish_writes(this, options.runtime, running.final_writes(TaskState.RETRY, error=reason))
    else:
        running.hand_over()  # the replacement may start before this task has ended


def _publish_for_dead_process(
    options: TrackOptions, task: Any, before: TaskIdentity, headers: MutableMapping[str, Any], body: Any
) -> None:
    """Publish the next attempt of a task after its process died (``retry_on_worker_lost``), in the worker's parent."""
    if _stamp_again(options, task, before, headers, body) is not None:
        reason, run_at = options.error_text(WorkerLostError()), time_of(headers, "eta")
        ending = Ending(
            before.task_id, TaskState.RETRY, reason, delivery=before.delivery, run_at=run_at, user_id=before.user_id
        )
        options.runtime.publisher.end_now(ending)


def _stamp_again(
    options: TrackOptions, task: Any, before: TaskIdentity, headers: MutableMapping[str, Any], body: Any
) -> TaskIdentity | None:
    """Let a message continue the bar of the attempt ``before``; ``None`` if it has no user."""
    headers.setdefault(USER_HEADER, before.user_id)  # a replaced task has lost its headers
    tracked = options.identify(task, body[0], body[1], headers)
    if tracked is None and options.is_for_members and before.root_id is None:
        # It continues the bar of the task that it replaces.
        tracked = replace(before, name=task.name, attempt=int(headers.get("retries") or 0) + 1, eta=None)
    if tracked is not None:
        again = replace(tracked, title=before.title, created_at=before.created_at, is_again=before.is_again)
        stamp(again, headers)
    return tracked


def _publish_pending(
    this: Sending, runtime: Services, tracked: TaskIdentity | None, headers: MutableMapping[str, Any]
) -> None:
    """Publish a task for the first time; ``None``: it has no user."""
    if tracked is None:
        return
    tracked = replace(tracked, eta=time_of(headers, "eta"))
    stamp(tracked, headers)
    event = tracked.event(TaskState.PENDING, at=runtime.clock.time())
    _publish_writes(this, runtime, [tracked.write(event, task_ttl=runtime.config.task_ttl)])
    if this.queue and this.is_published:
        publish_no_worker(runtime, tracked, this.queue)
    if (expires_at := time_of(headers, "expires")) is not None:
        expiry_timer_of(runtime).add(tracked.task_id, tracked.user_id, expires_at)


def _publish_writes(this: Sending, runtime: Services, writes: Sequence[TaskWrite]) -> None:
    this.is_published = runtime.publisher.publish_now(writes) is not None
    this.withdraw = lambda: runtime.publisher.submit(withdrawn(writes[-1], runtime.clock.time()))


def withdrawn(published: TaskWrite, at: float) -> TaskWrite:
    """Return the REVOKED event of a task that the broker refused."""
    event = replace(published.event, state=TaskState.REVOKED, error=NOT_QUEUED, at=at)
    # It may be the first event of the task that reaches Redis, so it has the membership too.
    return TaskWrite(published.user_id, event, pinned=True, membership=published.membership, plan=published.plan)
