"""``jobpush gateway --user-loader jobpush.django.users:load_user``: the users of Django's sessions."""

from __future__ import annotations

from ..web.flask.auth.django_session import load_user

__all__ = ["load_user"]
