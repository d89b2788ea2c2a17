"""The Flask side: browsers' connections, and what is served around them. Never imports Celery."""

from ..web.flask.extension import Gateway, create_app

__all__ = ["Gateway", "create_app"]
