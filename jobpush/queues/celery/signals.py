"""
Receivers of Celery's signals, which publish the events of tasks.

The receivers run inline, in a worker's parent inside its event loop: they hand over to the publisher and return.
Which signals a task's end emits, and in which process, differs between Celery's versions and pools; the store accepts
the first end only.
"""

from __future__ import annotations

import inspect
import logging
import time
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import Any

from celery import signals
from celery.exceptions import Ignore, Reject, Retry

from ...config import warn_about_unknown_variables
from ...errors import ConfigurationError, StoreError
from ...events import CodedText, TaskState, error_text
from ...reporting.identity import TaskIdentity
from ...reporting.records import Ending
from ...reporting.running_task import RunningTask
from ...reporting.services import Services
from . import publishing
from .compat import REPLACED, on_result, runs_tasks_itself
from .expiry import EXPIRED
from .headers import delivery_of, read_headers, stamp, stamp_delivery
from .queue_positions import QueueWatcher
from .registry import WorkerService, runtime_of, runtimes, worker_services_of
from .revoker import Revoker
from .track_options import TrackOptions, options_of
from .unusual_ends import IGNORED
from .worker_leases import LeaseKeeper, leases_of
from .workflow import follow_all_tasks
from .wrapper import running_of

logger = logging.getLogger("jobpush")

#: Error text of a task that its worker stopped without a cancel.
TASK_STOPPED = CodedText("The worker stopped the task before its end", "task_stopped")
#: Error text of a task with an unreadable message.
UNREADABLE = CodedText("The worker could not read the task", "unreadable_task")
#: Error text of a task that succeeded, but Celery failed to store its result.
NOT_COMPLETED = CodedText("The task ran, but its result could not be kept", "result_not_kept")
#: Error text of a task that returned a coroutine.
NOT_AWAITED = CodedText("The task did not run, because nothing awaits it", "not_awaited")


def connect() -> None:
    """Connect the receivers. Idempotent."""
    receivers = {
        signals.before_task_publish: publishing.before_task_publish,
        signals.task_received: on_received,
        signals.task_success: on_success,
        signals.task_failure: on_failure,
        signals.task_retry: on_retry,
        signals.task_revoked: on_revoked,
        signals.task_unknown: on_unknown,
        signals.task_rejected: on_rejected,
        signals.task_postrun: on_postrun,
        signals.task_internal_error: on_internal_error,
        signals.worker_init: on_worker_init,
        signals.worker_ready: on_worker_ready,
        signals.worker_shutdown: on_worker_shutdown,
        signals.worker_process_shutdown: on_process_shutdown,
    }
    for signal, receiver in receivers.items():
        signal.connect(receiver, dispatch_uid=f"jobpush.{receiver.__name__}")


# -- in the parent of a worker -----------------------------------------------------------------------

_followers: list[WorkerService] = []
_keepers: list[LeaseKeeper] = []


def on_worker_init(sender: Any = None, **kwargs: Any) -> None:
    """Check the settings before the worker uses its tasks, and wrap the tasks."""
    runtime = runtime_of(sender.app)
    if runtime is not None:
        try:
            name = runtime.store.client.name
            with suppress(StoreError):  # Redis may be unreachable; the worker starts anyway
                runtime.store.check_layout()
        except ConfigurationError as exc:
            raise SystemExit(f"jobpush: {exc}") from None  # Celery would log any other exception and continue
        warn_about_unknown_variables()
        logger.info("The worker uses Redis %s with the prefix %s", name, runtime.config.prefix)
        follow_all_tasks(sender.app, runtime)


def on_worker_ready(sender: Any = None, **kwargs: Any) -> None:
    """Start the services of the worker: leases, cancelling, queue positions, webhooks."""
    runtime = runtime_of(sender.app)
    if runtime is not None and not _followers:  # the signal is sent again after each reconnect to the broker
        leases_of(runtime).start(runs_tasks=runs_tasks_itself(sender.pool))
        _keepers.append(leases_of(runtime))
        _followers.append(Revoker(sender, runtime))
        _followers.append(QueueWatcher(sender, runtime))
        _followers.extend(start() for start in worker_services_of(sender.app))


def on_worker_shutdown(**kwargs: Any) -> None:
    """Stop the services of the worker."""
    while _followers:
        _followers.pop().stop()
    for keeper in _keepers:
        keeper.wait_for_redis()
    on_process_shutdown()
    while _keepers:  # last, because tasks without a published end become LOST
        _keepers.pop().stop()


def on_received(request: Any = None, **kwargs: Any) -> None:
    """Publish RECEIVED; the task may run at once or wait for its ETA."""
    options = options_of(request.task) if request.task is not None else None
    tracked = _received_task(options, request) if options is not None else None
    if options is None or tracked is None:
        return
    runtime = options.runtime
    keeper = leases_of(runtime)
    tracked = keeper.take(request, tracked)
    on_result(request, partial(_record_result, keeper, options, tracked))
    stamp_delivery(tracked, request.request_dict)  # the process that runs the task gets it too
    if tracked.attempt > 1 and tracked.eta is not None and tracked.eta > time.time():
        return  # until then the bar shows RETRY and the reason
    runtime.publisher.submit(tracked.write(tracked.event(TaskState.RECEIVED), task_ttl=runtime.config.task_ttl))


def _record_result(
    keeper: LeaseKeeper, options: TrackOptions, tracked: TaskIdentity, exc: BaseException | None
) -> None:
    """Record how a task ended, from the result that its pool process returned."""
    if exc is None:
        state, error = TaskState.SUCCESS, None
    elif isinstance(exc, Ignore) and str(exc) != REPLACED:
        state, error = TaskState.REVOKED, error_text(exc) if str(exc) else IGNORED
    elif isinstance(exc, (Ignore, Reject, Retry)) or not isinstance(exc, Exception):
        return  # the task continues, or a signal of the parent follows
    else:
        state, error = TaskState.FAILURE, options.error_text(exc)
    keeper.record_end(Ending(tracked.task_id, state, error, delivery=tracked.delivery))


def on_revoked(sender: Any = None, request: Any = None, expired: bool = False, **kwargs: Any) -> None:
    """Publish REVOKED: before the task ran, terminated while it ran, or expired."""
    error = EXPIRED if expired else None
    options = options_of(sender)
    notifies_end = options is not None and options.notifies_end
    delivery = delivery_of(request)
    _end(sender.app, Ending(str(request.id), TaskState.REVOKED, error, delivery=delivery, notifies_end=notifies_end))


def on_unknown(sender: Any = None, message: Any = None, name: str = "", id: str = "", **kwargs: Any) -> None:
    """Publish FAILURE for a task without code in this worker."""
    tracked = read_headers({"id": id, "task": name, **(message.headers or {})})
    if tracked is not None:
        error = CodedText(f"No worker knows the task {name}", f"unknown_task:{name}")
        _end(sender.app, Ending(str(id), TaskState.FAILURE, error, tracked))


def on_rejected(sender: Any = None, message: Any = None, **kwargs: Any) -> None:
    """Publish FAILURE for a task with an unreadable message."""
    tracked = read_headers(message.headers or {})
    if tracked is not None:
        _end(sender.app, Ending(tracked.task_id, TaskState.FAILURE, UNREADABLE, tracked))


def _received_task(options: TrackOptions, request: Any) -> TaskIdentity | None:
    headers = request.request_dict
    tracked = read_headers(headers, request.task)
    if tracked is None:  # its publisher has no jobpush
        tracked = options.identify(request.task, request.args, request.kwargs, headers)
        if tracked is not None:
            tracked = replace(tracked, is_again=bool(request.delivery_info.get("redelivered")))
            stamp(tracked, headers)
    return tracked


def _end(app: Any, ending: Ending) -> None:
    runtime = runtime_of(app)
    if runtime is not None:
        _submit(runtime, ending)


def _submit(runtime: Services, ending: Ending) -> None:
    """Publish an end, for the user of its delivery if this worker holds it: this does not wait for the task's owner."""
    runtime.publisher.submit_ending(replace(ending, user_id=leases_of(runtime).user_of(ending.delivery)))


# -- in the process that runs the task ---------------------------------------------------------------

#: The last task that ended here, for a signal that arrives after Celery has dropped its request.
_ended: ContextVar[RunningTask | None] = ContextVar("jobpush_ended", default=None)


def on_success(sender: Any = None, result: Any = None, **kwargs: Any) -> None:
    """Publish SUCCESS: the task returned, and its result is stored."""
    running = running_of(sender.request)
    if running is None:
        return
    options = options_of(sender)
    if inspect.iscoroutine(result):  # of an async def below another decorator; Celery does not await it
        logger.error("task %s returned a coroutine: make it a def that calls asyncio.run()", running.tracked.name)
        running.finish(TaskState.FAILURE, error=NOT_AWAITED)
        return
    if options is not None and options.result:
        running.data["result"] = result
    running.finish(TaskState.SUCCESS)


def on_failure(sender: Any = None, task_id: str = "", exception: Any = None, **kwargs: Any) -> None:
    """Publish FAILURE: the task raised, or (in the parent) its process died or took too long."""
    options = options_of(sender)
    if options is None:
        return
    error = options.error_text(exception)
    running = running_of(sender.request)
    if running is not None and running.tracked.task_id == str(task_id):
        running.finish(TaskState.FAILURE, error=error)
    else:
        # Celery does not always pass the request that failed; then it is the newest delivery of the task.
        delivery = delivery_of(sender.request) if sender.request.id == task_id else ""
        delivery = delivery or leases_of(options.runtime).delivery_of(str(task_id))
        ending = Ending(str(task_id), TaskState.FAILURE, error, delivery=delivery, notifies_end=options.notifies_end)
        _submit(options.runtime, ending)


def on_retry(sender: Any = None, request: Any = None, reason: Any = None, **kwargs: Any) -> None:
    """Publish the reason of a retry, or that the parent stopped the task."""
    running, options = running_of(request), options_of(sender)
    if options is None:
        return
    if running is None:
        # The parent has either published another attempt with RETRY, or stopped the task because the worker ends or has
        # lost its broker, which may redeliver the task.
        if reason is None:
            ending = Ending(str(request.id), TaskState.LOST, TASK_STOPPED, delivery=delivery_of(request))
            _submit(options.runtime, ending)
        return
    exc = getattr(reason, "exc", None)
    error = None if exc is None else options.error_text(exc)
    if error != running.error or request.is_eager:  # an eager retry is not yet published
        # Wait for it: an eager task begins its next attempt at once.
        options.runtime.publisher.publish_now(running.final_writes(TaskState.RETRY, error=error))


def on_internal_error(
    sender: Any = None, task_id: str = "", request: Any = None, exception: Any = None, **kwargs: Any
) -> None:
    """
    Publish FAILURE when Celery fails after the task's code has ended, for example to store its result.

    An eager task with ``throw=True`` passes its exception here, also one that its base class raises.
    """
    ended, options = _ended.get(), options_of(sender)
    if ended is None or ended.tracked.task_id != str(task_id) or ended.will_retry or ended.is_handed_over:
        return  # otherwise it has ended, and Celery failed to store its state
    is_eager = bool((request or {}).get("is_eager"))
    error = options.error_text(exception) if options is not None and is_eager else NOT_COMPLETED
    ended.finish(TaskState.FAILURE, error=ended.failure or error)


def on_postrun(task: Any = None, **kwargs: Any) -> None:
    """Forget the running task. Other signals publish its end."""
    running, options = running_of(task.request), options_of(task)
    if running is not None and options is not None:
        options.runtime.running.remove(running)
        _ended.set(running)


def on_process_shutdown(**kwargs: Any) -> None:
    """Flush the publishers as the process ends."""
    for runtime in runtimes():
        runtime.flush()
