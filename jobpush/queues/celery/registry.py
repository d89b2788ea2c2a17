"""The JobPush of each Celery app. Celery's signals are shared by all apps of a process."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from celery.app import app_or_default
from celery.exceptions import SoftTimeLimitExceeded

from ...reporting.services import Services

#: Attribute of an app that holds its services; Celery has no place for extensions.
_ATTRIBUTE = "jobpush_runtime"
#: Attribute of an app that holds the functions that start the services of its workers.
_SERVICES_ATTRIBUTE = "jobpush_worker_services"

_runtimes: weakref.WeakSet[Services] = weakref.WeakSet()


class WorkerService(Protocol):
    """A service that runs in the parent process of a worker."""

    def stop(self) -> None:
        """End soon."""


def register(app: Any, runtime: Services, *worker_services: Callable[[], WorkerService]) -> None:
    """Register ``runtime`` for the tasks of ``app``; each function starts a service of its workers."""
    setattr(app, _ATTRIBUTE, runtime)
    setattr(app, _SERVICES_ATTRIBUTE, worker_services)
    _runtimes.add(runtime)


def worker_services_of(app: Any) -> Sequence[Callable[[], WorkerService]]:
    """Return the functions that start the services of an app's workers."""
    services: Sequence[Callable[[], WorkerService]] = getattr(app, _SERVICES_ATTRIBUTE, ())
    return services


def runtime_of(app: Any) -> Services | None:
    """Return the services of ``app``; ``None`` if it has no JobPush."""
    return getattr(app, _ATTRIBUTE, None)


def runtimes() -> list[Services]:
    """Return the services of all apps in this process."""
    return list(_runtimes)


@dataclass
class Sending:
    """
    A message that an app is about to send.

    Args:
        app: Celery's.
        queue: The queue of a Redis broker that the message is for; ``None``: another broker, or unknown.
        withdraw: Withdraws the events published for it.
        is_published: Whether Redis has the task, so that further events can be published without waiting in vain.
        is_own: Whether it is the next attempt of the sending task, or its replacement.
        time_limit: The soft time limit of the sending task, if it was raised within a receiver of Celery's signals.
    """

    app: Any
    queue: str | None = None
    withdraw: Callable[[], None] | None = None
    is_published: bool = False
    is_own: bool = False
    time_limit: SoftTimeLimitExceeded | None = None


_sending: ContextVar[Sending | None] = ContextVar("jobpush_sending", default=None)


@contextmanager
def sending(app: Any) -> Iterator[Sending]:
    """Pass the sending app to ``before_task_publish``; Celery does not."""
    this = Sending(app)
    token = _sending.set(this)
    try:
        yield this
    finally:
        _sending.reset(token)


def current_sending() -> Sending:
    """
    Return the message that this thread sends. One that bypasses the wrapped ``send_task`` is attributed to the current
    app.
    """
    return _sending.get() or Sending(app_or_default())
