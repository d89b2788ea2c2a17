"""``track()``: lets a user watch a Celery task."""

from __future__ import annotations

import functools
import inspect
from dataclasses import replace
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


def track_bare(options: TrackOptions, function: Any) -> Any:
    """
    Serve ``@track`` without parentheses and ``@track(function)``, which look the same until the result is called.

    Returns:
        A decorator if it is called with a function or a task, which cannot be arguments of a message; otherwise the
        tracked ``function``.
    """
    replace(options, user=None).check(function)
    tracked = tracked_function(replace(options, user=None), function)

    @functools.wraps(tracked)
    def track_or_run(*args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and not kwargs and is_task_or_function(args[0]):
            return track(options, args[0])
        return tracked(*args, **kwargs)

    return track_or_run


def is_task_or_function(target: Any) -> bool:
    """Whether ``target`` can be tracked. A lazy task stays lazy."""
    return is_lazy(target) or inspect.isfunction(target) or hasattr(target, "apply_async")


def track_task(options: TrackOptions, task: Any) -> None:
    """Wrap the function of a task that Celery has created."""
    task.run = tracked_function(options, task.run)
