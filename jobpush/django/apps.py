"""The Django app: registers the system checks, and signs users out of the gateway when they log out."""

from __future__ import annotations

import logging
from typing import Any

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_out
from django.core.checks import Tags, register

from ..errors import StoreError

logger = logging.getLogger("jobpush.django")


class JobPushConfig(AppConfig):
    """Configuration of ``jobpush.django``."""

    name = "jobpush.django"
    label = "jobpush"

    def ready(self) -> None:
        """Start when Django has loaded all apps."""
        from .checks import check_settings

        register(check_settings, Tags.security)
        user_logged_out.connect(sign_out, dispatch_uid="jobpush")


def sign_out(sender: object, user: Any, **kwargs: object) -> None:
    """End the rights of a user's connections, and revoke the user's tokens."""
    from . import jobpush

    if user is None:
        return
    try:
        jobpush.sign_out(user.pk)
    except StoreError as exc:
        logger.warning("The connections of a user who logged out stay open: %s", exc)
