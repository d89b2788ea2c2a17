"""Checks of the gateway's settings, and of the Flask application around it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from ...channels import unescape_id
from ...config import Config
from ...errors import ConfigurationError, EventError, MissingSetting
from ...web.flask.auth.user_loader import loaded_user
from ...web.flask.limits import TrustedProxies
from ...web.flask.origins import Origins
from .finding import Finding, failed, ok, skipped, warning

gateway_log = logging.getLogger("jobpush.gateway")

#: Characters below which a secret can be guessed.
MIN_SECRET = 16
_NO_PROXIES = TrustedProxies(())
_NEW_SECRET = "python -c 'import secrets; print(secrets.token_hex(16))'"  # noqa: S105 - a command


def check_credentials(config: Config) -> Finding:
    """Check key, secret and application id."""
    try:
        config.require_credentials()
    except MissingSetting as exc:
        return failed("credentials", f"{exc.name} is not set", f"make one with: {_NEW_SECRET}")
    except ConfigurationError as exc:
        return failed("credentials", str(exc), "correct the setting that the message names")
    if len(config.secret) < MIN_SECRET:
        return warning(
            "credentials",
            f"JOBPUSH_SECRET has only {len(config.secret)} characters",
            f"make a longer one with: {_NEW_SECRET}",
        )
    return ok("credentials", "key and secret are set")


def check_origins(config: Config, url: str | None, origin: str | None) -> Iterator[Finding]:
    """Check the form of the allowed origins, and whether pages of ``origin`` may connect to the gateway at ``url``."""
    fitting = []
    for entry in config.allowed_origins:
        try:
            Origins([entry], _NO_PROXIES)
        except ConfigurationError:
            cure = "write scheme and host: https://app.example"
            yield failed("origins", f"{entry!r} in JOBPUSH_ALLOWED_ORIGINS never matches", cure)
        else:
            fitting.append(entry)
    if not origin:
        if fitting == list(config.allowed_origins):
            yield skipped("origins", "no origin of a page was given", "add --origin https://app.example.com")
        return
    page = _origin_of(origin)
    if url and page.partition("://")[2] == _origin_of(url).partition("://")[2]:
        yield ok("origins", f"pages of {page} are on the gateway's own host")
    elif Origins(fitting, _NO_PROXIES).allows(page):
        yield ok("origins", f"pages of {page} may connect")
    else:
        allowed = ", ".join(config.allowed_origins) or "none"
        yield failed(
            "origins", f"pages of {page} are refused (allowed: {allowed})", f"add {page} to JOBPUSH_ALLOWED_ORIGINS"
        )


def check_flask(app: Any, headers: Mapping[str, str]) -> Iterator[Finding]:
    """Check the secret key, the user loader and CSRF protection of the application."""
    state = app.extensions.get("jobpush")
    if state is None:
        yield failed("gateway", "the Flask application has no gateway", "add: Gateway(app, user_loader=…)")
        return
    if not app.secret_key:
        yield warning("secret key", "the Flask application has no secret_key, so no session", "set app.secret_key")
    yield _check_user_loader(app, state, headers)
    yield _check_csrf(app)


def _check_user_loader(app: Any, state: Any, headers: Mapping[str, str]) -> Finding:
    loader, cure = state.callbacks.user_loader, "return the user's id, (id, user_info) or None from user_loader"
    if loader is None:
        return warning(
            "user_loader",
            "no user_loader: pages have a user only with a token or by Pusher's sign-in",
            "pass user_loader to Gateway(…)",
        )
    with app.test_request_context("/", headers=dict(headers)):
        try:
            loaded = loader()
            user = loaded_user(loaded, max_user_info=state.config.max_user_info)
        except EventError as exc:
            return failed("user_loader", f"it returns an invalid user: {exc}", cure)
        except Exception as exc:
            return failed("user_loader", f"it raises {type(exc).__name__}: {exc}", cure)
    if user is None:
        hint = "" if headers else "; add a session with --header 'Cookie: …'"
        return ok("user_loader", f"it returns None (not signed in){hint}")
    return ok("user_loader", f"it returns {loaded!s:.80} ({type(loaded).__name__}): user {unescape_id(user.id)!r}")


def _check_csrf(app: Any) -> Finding:
    form = {"socket_id": "1.1", "channel_name": "private-doctor"}
    gateway_log.disabled = True  # it would log that nobody may join this channel
    try:
        answer = app.test_client().post("/jobpush/auth", data=form, headers={"X-Requested-With": "jobpush"})
    finally:
        gateway_log.disabled = False
    if answer.status_code in (400, 403, 419) and "csrf" in answer.get_data(as_text=True).lower():
        return failed(
            "csrf",
            "CSRF protection refuses the gateway's own requests",
            "exempt the paths below /jobpush/: they check origin, header or signature themselves",
        )
    return ok("csrf", "the gateway's own requests pass")


def _origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()
