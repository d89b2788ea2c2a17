"""Checks of applications with pages that sign in with connection tokens: Django, FastAPI and Starlette."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from werkzeug.test import Client

from ...channels import unescape_id
from ...config import Config
from ...tokens import TokenError, read_token
from .finding import Finding, failed, ok


@dataclass
class TokenApplication:
    """An application with a token endpoint; ``token_path`` is ``None`` if it has none."""

    config: Config | None
    token_path: str | None
    #: Sends a GET of a path with headers to the application; returns the status and the body.
    get: Callable[[str, Mapping[str, str]], tuple[int, bytes]]
    cure: str

    @classmethod
    def of_django(cls, app: Any) -> TokenApplication:
        """Describe the application in ``wsgi.py`` or ``asgi.py`` of a Django project."""
        from django.apps import apps
        from django.conf import settings
        from django.urls import NoReverseMatch, reverse

        config = path = None
        cure = 'add "jobpush.django" to INSTALLED_APPS and include jobpush.django.urls'
        if apps.is_installed("jobpush.django"):
            from ...django import jobpush

            config = jobpush.config
            try:
                path = reverse("jobpush:token")
            except NoReverseMatch:
                cure = 'add path("jobpush/", include("jobpush.django.urls")) to the URLs'
        host = next((name.lstrip(".") for name in settings.ALLOWED_HOSTS if name != "*"), "localhost")
        is_asgi = "asgi" in type(app).__module__
        return cls(config, path, partial(_ask_asgi if is_asgi else _ask_wsgi, app, host), cure)

    @classmethod
    def of_starlette(cls, app: Any) -> TokenApplication:
        """Describe a FastAPI or Starlette application: its token endpoint is that of ``AsyncJobPush.router``."""
        from ...fastapi import TOKEN_ROUTE

        jobpush = next(_jobpush_of(app.routes), None)
        path = None if jobpush is None else str(app.url_path_for(TOKEN_ROUTE))
        cure = "add: app.include_router(AsyncJobPush(jobpush).router(current_user))"
        return cls(jobpush and jobpush.config, path, partial(_ask_asgi, app, "localhost"), cure)


def check_token_endpoint(app: TokenApplication, headers: Mapping[str, str]) -> Iterator[Finding]:
    """Check which user the token endpoint of an application names for a request with these headers."""
    if app.token_path is None or app.config is None:
        yield failed("token endpoint", "the application has no token endpoint, so its pages have no user", app.cure)
        return
    try:
        status, body = app.get(app.token_path, headers)
        if status == 401:
            hint = "" if headers else "; add a session with --header 'Cookie: …'"
            yield ok("token endpoint", f"{app.token_path} answers 401 (not signed in){hint}")
            return
        if status != 200:
            cure = "let the path through to the endpoint; a redirect or a refusal comes from the application"
            yield failed("token endpoint", f"{app.token_path} answers {status}", cure)
            return
        user_id = read_token(app.config, json.loads(body)["token"], time.time()).user_id
    except TokenError as exc:
        yield failed("token endpoint", f"the gateway would refuse its token: {exc}", "use one JOBPUSH_SECRET")
    except Exception as exc:
        cure = "correct the function that names the user"
        yield failed("token endpoint", f"{app.token_path} raises {type(exc).__name__}: {exc}", cure)
    else:
        yield ok("token endpoint", f"{app.token_path} gives a token for user {unescape_id(user_id)!r}")


def check_django() -> Iterator[Finding]:
    """Run the system checks of ``jobpush.django``."""
    from ...django.checks import check_settings

    messages = check_settings()
    for message in messages:
        yield failed("django", str(message.msg), str(message.hint or "see the documentation of jobpush.django"))
    if not messages:
        yield ok("django", "the system checks of jobpush.django find nothing")


def _jobpush_of(routes: Any) -> Iterator[Any]:
    """Yield the JobPush of each token endpoint, those of mounted and included applications too."""
    for route in routes or ():
        if jobpush := getattr(getattr(route, "endpoint", None), "jobpush", None):
            yield jobpush
        yield from _jobpush_of(getattr(getattr(route, "original_router", route), "routes", None))


def _ask_wsgi(app: Any, host: str, path: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
    answer = Client(app, use_cookies=False).get(path, base_url=f"https://{host}", headers=dict(headers))
    return answer.status_code, answer.data


def _ask_asgi(app: Any, host: str, path: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [
            (name.lower().encode(), value.encode("latin-1")) for name, value in {"Host": host, **headers}.items()
        ],
        "client": ("127.0.0.1", 1),
        "server": (host, 443),
    }
    sent: list[dict[str, Any]] = []
    requests = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if not requests:
            await asyncio.Event().wait()  # the application cancels this once it has answered
        return requests.pop()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])
