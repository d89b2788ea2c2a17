"""Which web pages may use the session that comes with their requests."""

from __future__ import annotations

from flask import request

from ...config import Config
from ...protocol.codes import NotAuthorized, TlsRequired

#: Source: Fetch Metadata Request Headers, "Sec-Fetch-Site". Scripts cannot set it, and all current browsers send it.
_FOREIGN = frozenset({"cross-site", "same-site"})


class ForbiddenOrigin(NotAuthorized):
    """A page of another origin sent the request."""

    code = "forbidden_origin"


def ensure_tls(config: Config) -> None:
    """
    Accept the current request if it came over TLS, or if ``Config.tls_only`` is off.

    Any client may claim TLS by ``X-Forwarded-Proto``: a false claim harms nobody else.

    Raises:
        TlsRequired: Otherwise.
    """
    if not config.tls_only or request.is_secure:
        return
    if request.environ.get("HTTP_X_FORWARDED_PROTO", "").lower() != "https":
        raise TlsRequired


def ensure_allowed_origin(config: Config) -> None:
    """
    Accept the current request if its page may use the session that came with it.

    This prevents cross-site WebSocket hijacking and CSRF: a browser sends ``Origin`` with each WebSocket handshake and
    each POST. A client that sends neither ``Origin`` nor ``Sec-Fetch-Site`` is not a browser, so it carries no session
    of a victim.

    Raises:
        ForbiddenOrigin: Otherwise.
    """
    origin = request.environ.get("HTTP_ORIGIN")
    if "*" in config.allowed_origins:
        return
    if origin is None:
        # Requests that a foreign page causes without Origin: images, scripts, links. The page cannot read the answer,
        # but the request must not act in the user's name either.
        if request.environ.get("HTTP_SEC_FETCH_SITE") in _FOREIGN:
            raise ForbiddenOrigin("a page of another origin has sent this request")
        return
    scheme, host = _normalized(origin)
    # The scheme is not compared: behind a proxy that ends TLS, ours is unknown. The host's own origin is always
    # allowed: some clients that are not browsers (Pysher) send the host they connect to.
    is_own = bool(host) and host == _without_default_port(scheme, request.host.lower())
    is_allowed = is_own or (scheme, host) in map(_normalized, config.allowed_origins)
    if not is_allowed:
        raise ForbiddenOrigin(f"Origin {origin[:100]} is not allowed")


def _normalized(origin: str) -> tuple[str, str]:
    """Split into scheme and host. ``null``, the origin of sandboxed pages, has neither."""
    scheme, _, host = origin.strip().lower().rstrip("/").partition("://")
    return scheme, _without_default_port(scheme, host)


def _without_default_port(scheme: str, host: str) -> str:
    return host.removesuffix({"http": ":80", "https": ":443"}.get(scheme, ""))
