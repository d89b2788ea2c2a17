"""Task ends for which Celery sends no or insufficient signals: the wrapper around the task publishes them."""

from __future__ import annotations

from typing import Any

from celery.canvas import Signature, maybe_signature
from celery.exceptions import Ignore, Reject, TimeLimitExceeded

from ...events import CodedText, error_text
from ...lifecycle import TaskState
from ...reporting.running_task import RunningTask
from .arguments import UnknownResult
from .canvas import is_chain, is_chord
from .compat import is_raised_by_worker, is_replacement, replacement_of
from .headers import to_headers
from .track_options import TrackOptions, options_of

#: Error text of a task that raises Ignore without a reason.
IGNORED = CodedText("The task ended without a result", "no_result")


def publish_unusual_end(this: RunningTask, options: TrackOptions, task: Any, exc: BaseException) -> None:
    """
    Publish the end of a task if Celery will not, before Celery handles the exception.

    - ``Ignore``: the final state that the task has stored itself, or REVOKED. ``replace()`` raises it too: then the
      task with the same id continues the bar. If that task has no user, this one ends with SUCCESS.
    - ``Reject``: RETRY if the message is requeued, else FAILURE. A message that was acknowledged before the task began
      cannot be requeued.
    - ``SystemExit`` and others that do not derive from ``Exception``: FAILURE. If the worker raised them to end the
      task, its parent publishes the end.
    """
    if isinstance(exc, Ignore):
        if is_replacement(exc):
            if this.is_handed_over or this.tracked.root_id is not None or _has_heir(exc, task, this):
                this.hand_over()
            else:
                this.finish(TaskState.SUCCESS)
        else:
            state, error = _stored_end(options, task)
            this.finish(state, error=error_text(exc) if str(exc) else error)
    elif isinstance(exc, Reject):
        state = TaskState.RETRY if exc.requeue and task.acks_late else TaskState.FAILURE
        this.finish_now(state, error=options.error_text(exc))  # before another worker gets the message
    elif isinstance(exc, Exception):
        this.failure = options.error_text(exc)  # in case Celery sends no signal
    elif not is_raised_by_worker(exc):
        this.finish_now(TaskState.FAILURE, error=_error_of(options, exc))  # the process may be about to end


def _has_heir(exc: BaseException, task: Any, this: RunningTask) -> bool:
    """
    Whether the replacement that gets the id of a replaced task is itself tracked, and has a user.

    That is the task of the signature that ``replace()`` made, the last one of a chain, or the body of a chord.
    """
    signature = replacement_of(exc)
    result: tuple[UnknownResult, ...] = ()
    while is_chain(signature) or is_chord(signature):
        signature = maybe_signature(signature.tasks[-1] if is_chain(signature) else signature.body)
        result = () if signature.immutable else (UnknownResult(),)  # of the tasks before it
    published = task.app.tasks.get(signature.task) if isinstance(signature, Signature) else None
    options = options_of(published) if published is not None else None
    if options is None or options.is_for_members:
        return False
    return options.has_user(published, (*result, *signature.args), signature.kwargs, to_headers(this.tracked))


def _error_of(options: TrackOptions, exc: BaseException) -> str:
    if isinstance(exc, SystemExit) and not isinstance(exc.code, str):
        code = exc.code or 0
        return CodedText(f"The task ended its process: exit code {code}", f"process_ended:{code}")
    seconds = getattr(exc, "seconds", None)  # gevent's Timeout, with which its pool enforces the hard limit
    return options.error_text(exc if seconds is None else TimeLimitExceeded(seconds))


def _stored_end(options: TrackOptions, task: Any) -> tuple[TaskState, str]:
    """Return the final state and the error that a task with an ignored result has stored itself, or REVOKED."""
    try:
        meta = task.backend.get_task_meta(task.request.id)
        state, result = TaskState(meta["status"]), meta["result"]
    except Exception:  # no result backend, an unreachable one, or a custom state
        return TaskState.REVOKED, IGNORED
    error = options.error_text(result) if isinstance(result, Exception) else IGNORED
    return (state, error) if state.is_final else (TaskState.REVOKED, IGNORED)
