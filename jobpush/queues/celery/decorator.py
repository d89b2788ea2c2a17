"""``track()``: makes a Celery task one that its user can watch."""

from __future__ import annotations

from typing import Any

from .compat import is_lazy, lazy_function, unwrapped, when_made
from .track_options import TrackOptions
from .wrapper import tracked_function


def track(options: TrackOptions, target: Any) -> Any:
    """
    Track a function that becomes a task (``track`` below ``@task``), or a task (above it).

    Raises:
        UnknownArgument: If the function does not take an argument that ``options`` names.
    """
    if is_lazy(target):
        if (function := lazy_function(target)) is not None:
            options.check(function)
        when_made(target, lambda task: track_task(options, task))
        return target
    target = unwrapped(target)
    if hasattr(target, "apply_async"):
        options.check(target.run)
        track_task(options, target)
        return target
    options.check(target)
    return tracked_function(options, target)


def track_task(options: TrackOptions, task: Any) -> None:
    """Wrap the function of a task that Celery has made."""
    task.run = tracked_function(options, task.run)
