"""The ``JOBPUSH`` dictionary of Django's settings."""

from __future__ import annotations

from typing import Any

from django.conf import settings

#: Where ``manage.py jobpush_gateway`` listens, and the origins of ``manage.py runserver``.
DEVELOPMENT_BIND = "127.0.0.1:8001"
DEVELOPMENT_ORIGINS = "http://127.0.0.1:8000,http://localhost:8000"
#: Keys of the integration itself, with their defaults. All others are settings of :class:`jobpush.config.Config`.
_OWN: dict[str, Any] = {
    #: The URL of the gateway; empty if a proxy serves it on the same origin. Default with DEBUG: see DEVELOPMENT_BIND.
    "ROOT": None,
    #: Seconds that a connection token is valid.
    "TOKEN_TTL": 900,
}


def option(name: str) -> Any:
    """Return an option of the integration itself."""
    value = getattr(settings, "JOBPUSH", {}).get(name, _OWN[name])
    if name == "ROOT" and value is None:
        return f"http://{DEVELOPMENT_BIND}" if settings.DEBUG else ""
    return value


def options() -> dict[str, Any]:
    """Return the settings of :class:`jobpush.config.Config`, by its names."""
    return {name.lower(): value for name, value in getattr(settings, "JOBPUSH", {}).items() if name not in _OWN}
