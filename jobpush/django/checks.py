"""``manage.py check``: the ``JOBPUSH`` dictionary and the URLs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.urls import NoReverseMatch, reverse

from ..config import Config
from ..errors import ConfigurationError
from ..tokens import ensure_token_settings
from ..web.flask.limits import TrustedProxies
from ..web.flask.origins import Origins
from .settings import options


def check_settings(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Return an error for each wrong setting."""
    return list(_messages())


def _messages() -> Iterator[CheckMessage]:
    if not isinstance(getattr(settings, "JOBPUSH", {}), dict):
        yield Error("JOBPUSH must be a dictionary", id="jobpush.E001")
        return
    try:
        config = Config.load(options(), {})
        config.require_credentials()
        ensure_token_settings(config)
        Origins(config.allowed_origins, TrustedProxies(config.trusted_proxies))
    except ConfigurationError as exc:
        yield Error(
            f"JOBPUSH: {exc}", hint="Set it in the JOBPUSH dictionary or in the environment.", id="jobpush.E002"
        )
    else:
        if not config.redis_url:
            yield Error("JOBPUSH: REDIS_URL is not set", hint="For example redis://localhost:6379/0", id="jobpush.E003")
    try:
        reverse("jobpush:token")
    except NoReverseMatch:
        yield Warning(
            "jobpush.django.urls are not included, so pages get no connection token",
            hint='Add path("jobpush/", include("jobpush.django.urls")) to the URLs.',
            id="jobpush.W001",
        )
