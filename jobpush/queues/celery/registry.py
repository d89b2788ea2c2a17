"""Which JobPush belongs to which Celery app; Celery's signals are the same for all apps of a process."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from celery.app import app_or_default
from celery.exceptions import SoftTimeLimitExceeded

from ...reporting.services import Services

#: Attribute of an app that holds its Runtime; Celery has no place for extensions.
_ATTRIBUTE = "jobpush_runtime"

_runtimes: weakref.WeakSet[Services] = weakref.WeakSet()


def register(app: Any, runtime: Services) -> None:
    """Let ``runtime`` serve the tasks of ``app``."""
    setattr(app, _ATTRIBUTE, runtime)
    _runtimes.add(runtime)


def runtime_of(app: Any) -> Services | None:
    """The runtime that serves ``app``; ``None`` if it has no JobPush."""
    return getattr(app, _ATTRIBUTE, None)


def runtimes() -> list[Services]:
    """Those of all apps in this process."""
    return list(_runtimes)


@dataclass
class Sending:
    """
    A message that an app is about to send.

    Args:
        app: Celery's.
        withdraw: How to take back what its user has been told of it.
        is_own: Whether it is the next attempt of the task that sends it, or takes its place.
        time_limit: The soft one of the task that sends it, if that came within a receiver of Celery's signals.
    """

    app: Any
    withdraw: Callable[[], None] | None = None
    is_own: bool = False
    time_limit: SoftTimeLimitExceeded | None = None


_sending: ContextVar[Sending | None] = ContextVar("jobpush_sending", default=None)


@contextmanager
def sending(app: Any) -> Iterator[Sending]:
    """Tell ``before_task_publish`` which app is sending; Celery does not tell it."""
    this = Sending(app)
    token = _sending.set(this)
    try:
        yield this
    finally:
        _sending.reset(token)


def current_sending() -> Sending:
    """
    The message that is being sent here.

    What comes by another way than the wrapped ``send_task`` is taken to be the current app's.
    """
    return _sending.get() or Sending(app_or_default())
