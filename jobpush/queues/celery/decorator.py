"""``track()``: what makes a Celery task one that its user can watch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.local import PromiseProxy, Proxy

from .track_options import TrackOptions
from .wrapper import tracked_function


def track(tracking: TrackOptions, target: Any) -> Any:
    """
    Track a function that becomes a task (``track`` below ``@task``), or a task (above it).

    Raises:
        UnknownArgument: If the function does not take an argument that ``tracking`` names.
    """
    if isinstance(target, PromiseProxy) and not target.__evaluated__():
        # A task that Celery makes when it is first used. Asking for it now would freeze the app's settings.
        tracking.check(_function_of(target))
        target.__then__(lambda: track_task(tracking, target._get_current_object()))
        return target
    if isinstance(target, Proxy):
        target = target._get_current_object()
    if hasattr(target, "apply_async"):
        tracking.check(target.run)
        track_task(tracking, target)
        return target
    tracking.check(target)
    return tracked_function(tracking, target)


def track_task(tracking: TrackOptions, task: Any) -> None:
    """Put the edge around the function of a task that Celery has made."""
    task.run = tracked_function(tracking, task.run)


def _function_of(proxy: Any) -> Callable[..., Any]:
    """The function that a task will be made of. Source: celery/app/base.py, ``_create_task_cls``."""
    function: Callable[..., Any] = object.__getattribute__(proxy, "_Proxy__args")[0]
    return function
