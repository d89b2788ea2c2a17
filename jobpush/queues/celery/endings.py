"""The ends of a task of which Celery says nothing, or not enough: they are seen at the task's edge, and told there."""

from __future__ import annotations

from typing import Any

from celery.canvas import Signature, maybe_signature
from celery.exceptions import Ignore, Reject, TimeLimitExceeded

from ...events import error_text
from ...lifecycle import TaskState
from ...reporting.running_task import RunningTask
from .canvas import is_chain, is_chord
from .compat import is_raised_by_worker, is_replacement, replacement_of
from .track_options import TrackOptions, options_of

#: What a user reads of a task that has its result ignored, and gives no reason.
IGNORED = "The task ended without a result"


def publish_unusual_end(this: RunningTask, options: TrackOptions, task: Any, exc: BaseException) -> None:
    """
    Tell the user how a task ended, if Celery will not; before Celery handles what it has raised.

    - ``Ignore`` is over, as the task has stored by itself, else without success or failure: REVOKED. Celery's own
      means that another task takes the place of this one, or a whole canvas: then the bar goes on with the one of its
      tasks that gets the id, and if that is none of which the user hears, this one has done what it had to: SUCCESS.
    - ``Reject`` gives the message back, which is RETRY, or refuses it, which is FAILURE: as it always is where the
      message was acknowledged before the task began.
    - ``SystemExit`` and other exceptions that are no ``Exception`` are FAILURE, unless they are how the worker ends a
      task; then its parent says why.
    """
    if isinstance(exc, Ignore):
        if is_replacement(exc):
            if this.is_handed_over or this.tracked.root_id is not None or _has_heir(exc, task):
                this.hand_over()
            else:
                this.finish(TaskState.SUCCESS)
        else:
            this.finish(_stored_state(task), error=error_text(exc) if str(exc) else IGNORED)
    elif isinstance(exc, Reject):
        state = TaskState.RETRY if exc.requeue and task.acks_late else TaskState.FAILURE
        this.finish_now(state, error=options.error_text(exc))  # before the message is with another worker
    elif isinstance(exc, Exception):
        this.failure = options.error_text(exc)  # for the case that Celery comes to say nothing
    elif not is_raised_by_worker(exc):
        this.finish_now(TaskState.FAILURE, error=_error_of(options, exc))  # the process may be about to end


def _has_heir(exc: BaseException, task: Any) -> bool:
    """
    Whether a user hears, for its own sake, of the task that gets the id of one that was replaced.

    That is in what Celery's ``replace()`` has made of the new one: it, the last of a chain, the body of a chord.
    """
    signature = replacement_of(exc)
    while is_chain(signature) or is_chord(signature):
        signature = maybe_signature(signature.tasks[-1] if is_chain(signature) else signature.body)
    published = task.app.tasks.get(signature.task) if isinstance(signature, Signature) else None
    options = options_of(published) if published is not None else None
    return options is not None and not options.is_for_members


def _error_of(options: TrackOptions, exc: BaseException) -> str:
    if isinstance(exc, SystemExit) and not isinstance(exc.code, str):
        return f"The task ended its process: exit code {exc.code or 0}"
    seconds = getattr(exc, "seconds", None)  # of gevent's Timeout, by which its pool enforces the hard limit
    return options.error_text(exc if seconds is None else TimeLimitExceeded(seconds))


def _stored_state(task: Any) -> TaskState:
    """How a task ended that has Celery ignore its result: as it has stored by itself, else it was given up."""
    try:
        state = TaskState(task.backend.get_state(task.request.id))
    except Exception:  # no result backend, none that answers, or a state of the application's own
        return TaskState.REVOKED
    return state if state.is_final else TaskState.REVOKED
