"""The users of Starlette's sessions, for a gateway on the application's own host; see ``jobpush.fastapi.users``."""

from __future__ import annotations

import json
import os
from base64 import b64decode
from typing import Any

from itsdangerous import BadSignature, TimestampSigner

#: Seconds; Starlette's default.
_MAX_AGE = 14 * 86_400


def load_user(request: Any) -> Any:
    """
    Return ``user_id`` of the session that a werkzeug ``Request`` carries, or ``None``.

    The environment has the middleware's key as ``SESSION_SECRET``. Source: ``starlette.middleware.sessions``.
    """
    cookie = request.cookies.get("session")
    if not cookie:
        return None
    try:
        stored = TimestampSigner(os.environ["SESSION_SECRET"]).unsign(cookie, max_age=_MAX_AGE)
        return json.loads(b64decode(stored)).get("user_id")
    except (BadSignature, ValueError, AttributeError):
        return None
