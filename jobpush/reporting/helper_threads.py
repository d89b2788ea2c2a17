"""Finds the task of a thread that has no copy of the task's context: ``ThreadPoolExecutor``, ``Thread``."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

from .queue_hooks import is_running_untracked_task
from .running_task import RunningTask

logger = logging.getLogger(__name__)


class _Run:
    """A tracked task that runs in this process."""

    def __init__(self, task: RunningTask) -> None:
        self.task = task
        self.threads_before = WeakSet(threading.enumerate())
        #: Whether it is the only task of the process, apart from tasks that it is nested in or that are nested in it.
        self.is_in_main_thread = threading.current_thread() is threading.main_thread()
        self.has_warned = False


#: The tracked tasks that run in this process, the innermost last.
_runs: list[_Run] = []
if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_runs.clear)


@contextmanager
def attributed(task: RunningTask) -> Iterator[None]:
    """Attribute threads started meanwhile to ``task``."""
    run = _Run(task)
    _runs.append(run)
    try:
        yield
    finally:
        if run in _runs:  # not in a forked process that leaves the task by an exception
            _runs.remove(run)
        for outer in _runs:  # a thread that outlives the task must not count for the outer task
            outer.threads_before.update(set(threading.enumerate()).difference(run.threads_before))


def task_of_thread() -> RunningTask | None:
    """
    Return the task that has certainly started the calling thread; otherwise log once per task how to pass the context
    on. It is certain if the tasks of the process run in its main thread, hence never concurrently, and the thread did
    not exist when the task began.
    """
    runs = list(_runs)
    if not runs or any(is_running() for is_running in is_running_untracked_task):
        return None
    thread = threading.current_thread()
    if all(run.is_in_main_thread for run in runs) and not thread.name.startswith("Dummy-"):
        for run in reversed(runs):
            if thread not in run.threads_before:
                return run.task
    run = runs[-1]
    if not run.has_warned:
        run.has_warned = True
        logger.warning(
            "progress of the thread %r is not shown: its task is not certain. Start it with the context of its task: "
            "pool.submit(contextvars.copy_context().run, function, argument)",
            thread.name,
        )
    return None
