"""The applications that ``--app`` names: Flask with a gateway, Django, FastAPI, Starlette, Celery."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ...config import Config
from ...errors import ConfigurationError
from .frameworks import TokenApplication


@dataclass
class Applications:
    """The applications named by ``--app``; ``None`` if not given."""

    flask: Any = None
    celery: Any = None
    with_tokens: TokenApplication | None = None
    is_django: bool = False

    @classmethod
    def load(cls, names: Iterable[str]) -> Applications:
        """
        Import the applications.

        Args:
            names: ``package.module:name``; a call such as ``package.module:create_app()`` makes the application.

        Raises:
            ConfigurationError: If a name leads to no application that jobpush knows.
        """
        apps = cls()
        for name in names:
            app = _import(name)
            kinds = {(base.__module__.partition(".")[0], base.__name__) for base in type(app).__mro__}
            if ("flask", "Flask") in kinds:
                apps.flask = app
                apps.celery = apps.celery or app.extensions.get("celery")  # as Flask's documentation does
            elif ("celery", "Celery") in kinds:
                apps.celery = app
            elif kinds & {("django", "WSGIHandler"), ("django", "ASGIHandler")}:
                apps.with_tokens, apps.is_django = TokenApplication.of_django(app), True
            elif ("starlette", "Starlette") in kinds:  # FastAPI's is a subclass
                apps.with_tokens = TokenApplication.of_starlette(app)
            else:
                raise ConfigurationError(
                    f"--app {name} is a {type(app).__name__}; name a Flask, Celery, FastAPI or Starlette application, "
                    "or Django's in wsgi.py or asgi.py, without middleware around it"
                )
        return apps

    @property
    def gateway_config(self) -> Config | None:
        """Settings of the web application's gateway, or of its JobPush; ``None``: it has neither."""
        if self.with_tokens is not None:
            return self.with_tokens.config
        state = self.flask and self.flask.extensions.get("jobpush")
        return state.config if state else None

    @property
    def worker_config(self) -> Config | None:
        """Settings of the Celery application's JobPush; ``None``: it has no JobPush."""
        if self.celery is None:
            return None
        from ...queues.celery.registry import runtime_of

        runtime = runtime_of(self.celery)
        return runtime.config if runtime else None


def _import(name: str) -> Any:
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise ConfigurationError(f"--app must be module:app, not {name!r}")
    sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
        app = getattr(module, attribute.removesuffix("()"))
        return app() if attribute.endswith("()") else app
    except Exception as exc:
        raise ConfigurationError(f"--app {name} cannot be imported: {type(exc).__name__}: {exc}") from exc
    finally:
        sys.path.remove("")
