"""The connections of browsers: hub, loop, channels and presence. Imports no web framework and no Celery."""

from __future__ import annotations

import select
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if find_spec("fcntl") is None or not hasattr(select, "poll"):
    raise ImportError(
        "The gateway of jobpush needs Linux or macOS: this Python has no fcntl or no select.poll. Publishing, workers"
        " with -P solo and the command line work here; run the gateway on another machine or in a container."
    )

if TYPE_CHECKING:
    from ..web.flask.extension import Gateway, create_app

__all__ = ["Gateway", "create_app"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ..web.flask import extension  # the one import upwards: these two names are public here

    return getattr(extension, name)
