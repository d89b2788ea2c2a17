"""What a queue's adapter registers, so that this room needs to know no queue."""

from __future__ import annotations

from collections.abc import Callable

#: Exceptions by which the queue interrupts a task, at any point of its code: a soft time limit.
interruptions: list[type[BaseException]] = []
#: Asked in a thread without a tracked task: whether the queue runs a task there that is not tracked.
is_running_untracked_task: list[Callable[[], bool]] = []


def raise_interruption(exc: BaseException) -> None:
    """Raise ``exc`` if it is no error of what was called, but the queue's interruption of the task."""
    if isinstance(exc, tuple(interruptions)):
        raise exc
