"""The user of a request: chooses between the authentication backends."""

from __future__ import annotations

from flask import request

from ....protocol.actions import UserData
from ....tokens import TokenInvalid
from ..state import GatewayState
from .bearer_token import current_token
from .user_loader import session_user


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
        user = None if request.headers.get("Cookie") else session_user(state)
        if user is None:
            raise
        return user
    if token is not None:
        return UserData(token.user_id, token.user_info, token.watchlist)
    return session_user(state)
