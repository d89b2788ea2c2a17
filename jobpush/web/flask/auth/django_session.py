"""The users of Django's sessions, for a gateway on the application's own host; see ``jobpush.django.users``."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import django
from django.conf import settings
from django.contrib.auth import get_user
from django.db import close_old_connections
from django.http import HttpRequest


def load_user(request: Any) -> Any:
    """Return the primary key of the user in the session of a werkzeug ``Request``, or ``None``."""
    django.setup()
    key = request.cookies.get(settings.SESSION_COOKIE_NAME)
    if not key:
        return None
    with_session = HttpRequest()
    with_session.session = import_module(settings.SESSION_ENGINE).SessionStore(key)
    try:
        user = get_user(with_session)
        return user.pk if user.is_authenticated else None
    finally:
        close_old_connections()
