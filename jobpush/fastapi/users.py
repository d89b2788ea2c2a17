"""``jobpush gateway --user-loader jobpush.fastapi.users:load_user``: the users of Starlette's sessions."""

from __future__ import annotations

from ..web.flask.auth.starlette_session import load_user

__all__ = ["load_user"]
