"""Checks of the Celery application."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .finding import Finding, failed, ok, warning

#: Seconds to wait for the broker, and for workers.
TIMEOUT = 3.0


def check_celery(app: Any) -> Iterator[Finding]:
    """Check that the broker is reachable, and that a worker answers."""
    if app.conf.task_always_eager:
        yield warning("broker", "task_always_eager is set: tasks run in the caller", "unset it outside tests")
        return
    try:
        with app.connection_for_write(connect_timeout=TIMEOUT) as connection:
            name = connection.as_uri()
            connection.ensure_connection(max_retries=1, timeout=TIMEOUT)
    except Exception as exc:  # each transport raises its own errors
        yield failed("broker", f"the broker is unreachable: {exc}", "start it, or correct Celery's broker_url")
        return
    yield ok("broker", f"{name} is reachable")
    workers = app.control.ping(timeout=TIMEOUT)
    if not workers:
        yield warning("celery worker", "no Celery worker answers", "start one: celery -A … worker")
        return
    names = sorted(name for answer in workers for name in answer)
    yield ok("celery worker", f"{', '.join(names)} answer{'s' if len(names) == 1 else ''}")
