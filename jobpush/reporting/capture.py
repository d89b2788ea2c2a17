"""Copies the :mod:`logging` records of a task into the task's own log: ``track(capture=True)``."""

from __future__ import annotations

import logging

from .progress import current_progress

#: jobpush's own lines are about the log, not part of it.
_OWN = "jobpush."


class CaptureHandler(logging.Handler):
    """Takes the records that are logged in the context of a task with ``capture``; all others pass."""

    def emit(self, record: logging.LogRecord) -> None:
        """Append a record to the log of its task."""
        task = current_progress()
        if task is None or not task.captures or record.name.startswith(_OWN) or hasattr(record, "jobpush_captured"):
            return
        record.jobpush_captured = True  # a parent of its logger passes it again
        try:
            text = record.getMessage()
        except Exception:
            self.handleError(record)
        else:
            task.log(text, level=record.levelname.lower())


_handler = CaptureHandler()


def capture_from(*names: str) -> None:
    """
    Attach the handler to loggers. Idempotent.

    Args:
        names: Names of loggers that do not propagate; the root logger is always included.
    """
    for logger in (logging.getLogger(), *map(logging.getLogger, names)):
        if _handler not in logger.handlers:
            logger.addHandler(_handler)
