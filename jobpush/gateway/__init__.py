"""The connections of browsers: hub, loop, channels and presence. Imports no web framework and no Celery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..web.flask.extension import Gateway, create_app

__all__ = ["Gateway", "create_app"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ..web.flask import extension  # the one import upwards: these two names are public here

    return getattr(extension, name)
