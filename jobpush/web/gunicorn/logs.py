"""Logging of a stand-alone gateway: one line per change of state, as text or as JSON."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

#: Values of ``JOBPUSH_LOG_FORMAT``; without one of them, logging is left to the application.
FORMATS = ("text", "json")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``{"at": "2026-01-31T12:00:00.123Z", "level", "logger", "process", "message"}``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; ``error`` is the traceback, if there is one."""
        clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "at": f"{clock}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def logging_config(kind: str) -> dict[str, Any]:
    """
    Return the argument of :func:`logging.config.dictConfig`, also for gunicorn's own lines.

    Args:
        kind: One of :data:`FORMATS`.

    Raises:
        ValueError: If it is another.
    """
    if kind not in FORMATS:
        raise ValueError(f"JOBPUSH_LOG_FORMAT must be {' or '.join(FORMATS)}, not {kind!r}")
    handlers = {"level": "INFO", "handlers": ["standard_error"], "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "root": {"level": "INFO", "handlers": ["standard_error"]},
        # No line per request, which gunicorn would write once logging is configured.
        "loggers": {"gunicorn.error": handlers, "gunicorn.access": {**handlers, "level": "WARNING"}},
        "handlers": {
            "standard_error": {"class": "logging.StreamHandler", "formatter": kind, "stream": "ext://sys.stderr"}
        },
        "formatters": {
            "text": {"format": "%(asctime)s [%(process)d] %(levelname)s %(name)s: %(message)s"},
            "json": {"()": JsonFormatter},
        },
    }
