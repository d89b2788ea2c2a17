"""Checks of the web pages that may use the session of a request."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from flask import request
from werkzeug.wsgi import get_host

from ...config import Config
from ...errors import ConfigurationError
from ...protocol.codes import NotAuthorized, TlsRequired
from .limits import TrustedProxies

#: Source: Fetch Metadata Request Headers, "Sec-Fetch-Site". Scripts cannot set it, and all current browsers send it.
_FOREIGN = frozenset({"cross-site", "same-site"})
#: Source: RFC 6454, 6.2. ``*.`` stands for one label. No page has an origin of the schemes that are left out.
_ORIGIN = re.compile(
    r"(?P<scheme>(?!(ws|wss|file)://)[a-z][a-z0-9+.-]*)://(?P<wildcard>\*\.)?"
    r"(?P<host>[a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?P<port>:\d{1,5})?/?"
)


#: Schemes of requests over TLS.
_TLS = frozenset({"https", "wss"})


class ForbiddenOrigin(NotAuthorized):
    """A page of another origin sent the request."""

    code = "forbidden_origin"


class Origins:
    """
    The allowed origins of a gateway.

    Args:
        allowed: ``https://app.example.com``, ``https://*.example.com`` (one label), or ``*`` for any origin.
        proxies: The proxies with trusted ``X-Forwarded-Host`` and ``X-Forwarded-Proto`` headers.

    Raises:
        ConfigurationError: If an entry can never match an origin.
    """

    def __init__(self, allowed: Sequence[str], proxies: TrustedProxies) -> None:
        self.is_any = "*" in allowed
        self._proxies = proxies
        self._exact: set[str] = set()
        patterns = []
        for entry in allowed:
            if entry == "*":
                continue
            match = _ORIGIN.fullmatch(entry.lower())
            if match is None or int((match["port"] or ":1")[1:]) not in range(1, 65_536):
                raise ConfigurationError(
                    f"JOBPUSH_ALLOWED_ORIGINS: {entry!r} can never match; write scheme and host without a path, "
                    "for example https://app.example.com or https://*.example.com (one label)"
                )
            origin = _without_default_port(entry.lower().rstrip("/"))
            if match["wildcard"]:
                patterns.append(re.escape(origin).replace(r"\*", "[a-z0-9_-]+"))
            else:
                self._exact.add(origin)
        self._pattern = re.compile("|".join(patterns)) if patterns else None
        listed: list[str | re.Pattern[str]] = [*sorted(self._exact), *([self._pattern] if self._pattern else [])]
        #: The origins as flask-cors takes them.
        self.cors: list[str | re.Pattern[str]] | str = "*" if self.is_any else listed
        #: Whether a response depends on the requesting origin.
        self.varies = bool(listed) and not self.is_any

    def allows(self, origin: str) -> bool:
        """Return whether an origin is listed."""
        normalized = _without_default_port(origin.strip().lower().rstrip("/"))
        return self.is_any or normalized in self._exact or bool(self._pattern and self._pattern.fullmatch(normalized))

    def cors_headers(self) -> dict[str, str]:
        """Return the headers with which a page of another origin may read the answer to the current request."""
        origin = request.environ.get("HTTP_ORIGIN")
        if self.is_any:
            return {"Access-Control-Allow-Origin": "*"}
        if origin is None or not self.allows(origin):
            return {"Vary": "Origin"} if self.varies else {}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Credentials": "true",
            "Vary": "Origin",
        }

    def ensure_allowed(self) -> None:
        """
        Accept the current request if its page may use the session that came with it.

        This prevents cross-site WebSocket hijacking and CSRF: a browser sends ``Origin`` with each WebSocket handshake
        and each POST. A client that sends neither ``Origin`` nor ``Sec-Fetch-Site`` is not a browser, so it carries no
        session of a victim.

        Raises:
            ForbiddenOrigin: Otherwise.
        """
        if self.is_any:
            return
        environ = request.environ
        origin = environ.get("HTTP_ORIGIN")
        if origin is None:
            # Requests of a foreign page without Origin: images, scripts, links. The page cannot read the response, and
            # the request must not act in the user's name.
            if environ.get("HTTP_SEC_FETCH_SITE") in _FOREIGN:
                raise ForbiddenOrigin("a page of another origin has sent this request")
        elif not self._is_own(origin, environ) and not self.allows(origin):
            raise ForbiddenOrigin(f"Origin {origin[:100]} is not allowed")

    def _is_own(self, origin: str, environ: dict[str, Any]) -> bool:
        """
        Return whether an origin is the host's own; some clients that are not browsers (Pysher) send it too.

        ``http`` is foreign where the request came over TLS. Otherwise the scheme is unknown behind a proxy.
        """
        host, is_secure = get_host(environ), environ["wsgi.url_scheme"] in _TLS
        if self._proxies.trusts(environ.get("REMOTE_ADDR", "")):
            host = _last(environ, "HTTP_X_FORWARDED_HOST") or host
            # Each proxy of a chain may add its scheme; a false https only refuses the sender's own origin.
            is_secure = is_secure or not _TLS.isdisjoint(_forwarded_schemes(environ))
        scheme, _, own = _without_default_port(origin.strip().lower().rstrip("/")).partition("://")
        if not own or own != _without_default_port(f"{scheme}://{host.lower()}").partition("://")[2]:
            return False
        return not (is_secure and scheme == "http")


def ensure_tls(config: Config) -> None:
    """
    Accept the current request if it came over TLS, or if ``Config.tls_only`` is off.

    Any client may claim TLS by ``X-Forwarded-Proto``: a false claim harms nobody else.

    Raises:
        TlsRequired: Otherwise.
    """
    if not config.tls_only or request.is_secure:
        return
    if _forwarded_schemes(request.environ)[0] not in _TLS:
        raise TlsRequired


def _forwarded_schemes(environ: Mapping[str, Any]) -> list[str]:
    """Return the schemes that the proxies saw, the outermost first; Traefik writes ``wss`` for a WebSocket."""
    return [scheme.strip() for scheme in environ.get("HTTP_X_FORWARDED_PROTO", "").lower().split(",")]


def _last(environ: Mapping[str, Any], name: str) -> str:
    """Return the value that the nearest proxy added."""
    return str(environ.get(name, "")).rpartition(",")[2].strip()


def _without_default_port(origin: str) -> str:
    return origin.removesuffix({"http:": ":80", "https": ":443"}.get(origin[:5], ""))
