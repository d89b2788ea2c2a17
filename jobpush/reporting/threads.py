"""Daemon threads that a task never depends on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)


def kept_alive(thread: threading.Thread | None, run: Callable[[], None], name: str) -> threading.Thread | None:
    """
    Return the thread if it is alive, otherwise a new one; ``None``, with a log line, if none can be started now.

    Args:
        thread: The current thread; ``None``: none yet.
        run: Its function, which does not return.
        name: ``jobpush-`` and the purpose.
    """
    if thread is not None and thread.is_alive():
        return thread
    thread = threading.Thread(target=run, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as exc:  # too many threads, or the interpreter exits: the task must not fail
        logger.warning("the thread %s can't be started at the moment: %s", name, exc)
        return None
    return thread
