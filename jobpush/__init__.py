"""
Live progress of Celery tasks in the browser of the user who started them.

Names are imported on first use, so that a gateway runs without Celery and a worker without Flask.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import (
    ConfigurationError,
    EventError,
    InvalidChannelName,
    InvalidData,
    InvalidEventName,
    InvalidUserId,
    JobPushError,
    MissingSetting,
    ProtocolError,
    StoreError,
    TaskCancelled,
    TaskNotFound,
    UnknownArgument,
)

if TYPE_CHECKING:
    from .api import JobPush
    from .gateway import Gateway
    from .reporting.progress import progress
    from .reporting.tqdm import tqdm

__all__ = [
    # the application and its tasks
    "JobPush",
    "progress",
    "tqdm",
    # the web side
    "Gateway",
    # errors
    "ConfigurationError",
    "EventError",
    "InvalidChannelName",
    "InvalidData",
    "InvalidEventName",
    "InvalidUserId",
    "JobPushError",
    "MissingSetting",
    "ProtocolError",
    "StoreError",
    "TaskCancelled",
    "TaskNotFound",
    "UnknownArgument",
]

_MODULES = {
    "JobPush": ".api",
    "progress": ".reporting.progress",
    "tqdm": ".reporting.tqdm",
    "Gateway": ".gateway",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
