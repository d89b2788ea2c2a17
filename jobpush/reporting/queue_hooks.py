"""Hooks that a queue's adapter registers, so that this package needs no knowledge of any queue."""

from __future__ import annotations

from collections.abc import Callable

#: Exceptions by which the queue interrupts a task, at any point of its code: a soft time limit.
interruptions: list[type[BaseException]] = []
#: Called in a thread without a tracked task; returns whether the queue runs an untracked task there.
is_running_untracked_task: list[Callable[[], bool]] = []


def raise_interruption(exc: BaseException) -> None:
    """Raise ``exc`` if it is the queue's interruption of the task, and not an error of the called code."""
    if isinstance(exc, tuple(interruptions)):
        raise exc
