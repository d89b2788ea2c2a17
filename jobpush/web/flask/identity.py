"""The user of a request: from its bearer token, or from the application's ``user_loader``, which reads the session."""

from __future__ import annotations

import logging
import time

from flask import g, request

from ...channels import unescape_id
from ...errors import EventError
from ...protocol.actions import UserData
from ...protocol.sign_in import loaded_user
from ...tokens import ConnectionToken, TokenInvalid, read_token
from .state import GatewayState

logger = logging.getLogger("jobpush.gateway")


def current_user(state: GatewayState) -> UserData | None:
    """
    Return the user of the current request, from its bearer token or ``user_loader``.

    Raises:
        TokenError: If the token is refused.
        StoreError: If Redis does not answer the query for revoked tokens.
    """
    try:
        token = current_token(state)
    except TokenInvalid:
        # It may be the application's own token. If there is a cookie, its session must not replace the token.
        user = None if request.headers.get("Cookie") else _session_user(state)
        if user is None:
            raise
        return user
    if token is not None:
        return UserData(token.user_id, token.user_info, token.watchlist)
    return _session_user(state)


def current_token(state: GatewayState) -> ConnectionToken | None:
    """
    Return the claims of the current request's ``Authorization: Bearer``.

    Raises:
        TokenError: If the token is refused.
        StoreError: If Redis does not answer the query for revoked tokens.
    """
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    if "jobpush_token" not in g:
        token = read_token(state.config, text.strip(), time.time())
        token.ensure_not_revoked(state.directory.revoked_at(unescape_id(token.user_id)))
        g.jobpush_token = token
    claims: ConnectionToken = g.jobpush_token
    return claims


def _session_user(state: GatewayState) -> UserData | None:
    loader = state.callbacks.user_loader
    if loader is None:
        return None
    try:
        return loaded_user(loader(), max_user_info=state.config.max_user_info)
    except EventError as exc:
        state.log.warn("invalid_user", f"user_loader returned an invalid user, so the request has no user: {exc}")
    except Exception:
        logger.exception("user_loader failed; the request has no user")
    return None
