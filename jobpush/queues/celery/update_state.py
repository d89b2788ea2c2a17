"""``Task.update_state()``, and so celery-progress's ``ProgressRecorder``, moves the bar of a tracked task."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from numbers import Number
from typing import Any

from celery.states import ALL_STATES

from ...reporting.progress import current_progress, progress, running
from ...reporting.services import Services

#: Keys under which tasks store their progress; the first one with a usable value counts.
_CURRENT = ("current", "done", "completed", "processed", "finished", "step", "i")
_TOTAL = ("total", "steps", "total_steps", "count", "of", "n")
_PERCENT = ("percent", "percentage", "progress", "process_percent", "percent_complete", "pct")
_MESSAGE = ("description", "message", "status", "msg", "text", "detail", "stage", "step", "current_step", "info")

#: Attribute of an ``update_state`` that also reports progress to jobpush.
_MARK = "jobpush_reports"


def report_update_state(task: Any, services: Services) -> None:
    """Make ``update_state()`` of a Celery task report progress too. Idempotent."""
    original = task.update_state
    if hasattr(original, _MARK):
        return

    @functools.wraps(original)
    def update_state(task_id: Any = None, state: Any = None, meta: Any = None, **kwargs: Any) -> Any:
        if isinstance(meta, Mapping) and state not in ALL_STATES:
            current = current_progress()
            if task_id is not None and (current is None or current.tracked.task_id != str(task_id)):
                current = services.running.find(str(task_id))  # from another thread
            if current is not None:
                with running(current):
                    progress.update(**progress_of(meta))
        return original(task_id, state, meta, **kwargs)

    setattr(update_state, _MARK, True)
    task.update_state = update_state


def progress_of(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``progress.update()`` for the ``meta`` of an ``update_state()``."""
    found: dict[str, Any] = {}
    current, total = _number(meta, _CURRENT), _number(meta, _TOTAL)
    percent = _number(meta, _PERCENT)
    if percent is not None and total is None:
        is_fraction = isinstance(meta.get("progress"), float) and 0 <= percent <= 1 and percent == meta["progress"]
        current, total = percent * 100 if is_fraction else percent, 100
    if current is not None:
        found["current"] = current
    if total:  # celery-progress uses 0 for an unknown total
        found["total"] = total
    message = next((meta[name] for name in _MESSAGE if isinstance(meta.get(name), str) and meta[name]), None)
    if message is not None:
        found["message"] = message
    return found


def _number(meta: Mapping[str, Any], names: Iterable[str]) -> Any:
    for name in names:
        value = meta.get(name)
        if isinstance(value, str):
            try:
                return float(value.strip().rstrip("%"))
            except ValueError:
                continue
        is_number = isinstance(value, Number) or hasattr(value, "__float__") or hasattr(value, "__index__")
        if is_number and not isinstance(value, bool):
            return value
    return None
