"""Authentication by a connection token in the header ``Authorization: Bearer``."""

from __future__ import annotations

import time

from flask import g, request

from ....channels import unescape_id
from ....tokens import ConnectionToken, read_token
from ..state import GatewayState


def current_token(state: GatewayState) -> ConnectionToken | None:
    """
    Return the claims of the current request's token, or ``None`` if it has no token.

    Raises:
        TokenError: If the token is refused.
        StoreError: If Redis does not answer the query for revoked tokens.
    """
    # request.headers would build an HTTPException if it is missing.
    scheme, _, text = request.environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    if "jobpush_token" not in g:
        token = read_token(state.config, text.strip(), time.time())
        token.ensure_not_revoked(state.directory.revoked_at(unescape_id(token.user_id)))
        g.jobpush_token = token
    claims: ConnectionToken = g.jobpush_token
    return claims
