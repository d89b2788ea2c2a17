"""The threads that a worker's process has for us, of which no task may notice whether they could be started."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)


def kept_alive(thread: threading.Thread | None, run: Callable[[], None], name: str) -> threading.Thread | None:
    """
    The thread if it lives, else a new one, or ``None`` if none can be started at the moment: that is logged.

    Args:
        thread: The one that was started before; ``None``: none yet.
        run: What it does, to the end of the process.
        name: ``jobpush-`` and what it is for.
    """
    if thread is not None and thread.is_alive():
        return thread
    thread = threading.Thread(target=run, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as exc:  # too many threads, or the interpreter ends: no reason for a task to fail
        logger.warning("the thread %s can't be started at the moment: %s", name, exc)
        return None
    return thread
