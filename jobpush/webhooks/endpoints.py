"""The URLs of ``JOBPUSH_WEBHOOK_URLS``, and the filters in them."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from ..config import Config
from ..errors import ConfigurationError
from .kinds import KINDS

#: Visible ASCII: nothing else is valid in a request line or a Host header.
_URL = re.compile(r"[!-~]+")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """
    The parts of one URL, and the filter of its events.

    ``name`` identifies it in logs and Celery's messages: without the password, and with a hash of the query, which may
    hold a token. ``setting`` is the URL as configured.
    """

    name: str
    setting: str = field(repr=False)
    is_secure: bool
    host: str
    port: int
    #: The Host header.
    authority: str
    #: Path and query.
    target: str = field(repr=False)
    #: The Authorization header for user and password of the URL, if it has any.
    authorization: str | None = field(repr=False)
    #: Empty: all kinds.
    kinds: frozenset[str]
    #: Empty: all channels, and events without a channel.
    prefixes: tuple[str, ...]

    def wants(self, event: Mapping[str, Any]) -> bool:
        """Return whether the filters accept an event. A prefix excludes events without a channel (``user_online``)."""
        if self.kinds and event.get("name") not in self.kinds:
            return False
        return not self.prefixes or str(event.get("channel", "")).startswith(self.prefixes)


def configured_endpoints(config: Config) -> tuple[Endpoint, ...]:
    """
    Read the URLs of ``Config.webhook_urls``.

    The filters are in the fragment, which is never sent: ``#kinds=member_added+member_removed&prefix=presence-``.
    Both are optional; ``+`` separates several values.

    Raises:
        ConfigurationError: If one is not an http(s) URL or has an unknown filter (the message does not repeat the
            URL), or if key or secret are not set although there is a URL.
    """
    endpoints = []
    for number, url in enumerate(config.webhook_urls, start=1):
        try:
            endpoints.append(_endpoint(url))
        except ValueError as exc:
            raise ConfigurationError(f"URL {number} of JOBPUSH_WEBHOOK_URLS is wrong: {exc}") from None
    if endpoints:
        config.require_credentials()  # they sign every request
    return tuple(endpoints)


def _endpoint(setting: str) -> Endpoint:
    if not _URL.fullmatch(setting):
        raise ValueError("it must be ASCII without spaces; use punycode and %-escapes")
    url = urlsplit(setting)
    if url.scheme not in _PORTS or not url.hostname:
        raise ValueError("it must begin with http:// or https:// and name a host")
    authority = url.netloc.rpartition("@")[2]
    kinds, prefixes = _filters(url.fragment)
    return Endpoint(
        name=_name(url, authority),
        setting=setting,
        is_secure=url.scheme == "https",
        host=url.hostname,
        port=_port(url),
        authority=authority,
        target=(url.path or "/") + (f"?{url.query}" if url.query else ""),
        authorization=_authorization(url),
        kinds=frozenset(kinds),
        prefixes=tuple(prefixes),
    )


def _port(url: SplitResult) -> int:
    try:
        return url.port or _PORTS[url.scheme]
    except ValueError:
        # The original message repeats the port, which is part of the password if that has an unescaped slash.
        raise ValueError("its port must be a number up to 65535; a password needs %-escapes") from None


def _filters(fragment: str) -> tuple[list[str], list[str]]:
    given = parse_qs(fragment, keep_blank_values=True, strict_parsing=bool(fragment))
    if unknown := sorted(set(given) - {"kinds", "prefix"}):
        raise ValueError(f"the filter {unknown[0]!r} is unknown; known are: kinds, prefix")
    kinds, prefixes = (" ".join(given.get(name, ())).split() for name in ("kinds", "prefix"))
    if wrong := sorted(set(kinds) - KINDS.keys()):
        raise ValueError(f"the kind {wrong[0]!r} is unknown; known are: {', '.join(sorted(KINDS))}")
    return kinds, prefixes


def _name(url: SplitResult, authority: str) -> str:
    """Return a unique name safe to show: credentials and query, which may be secret, are only a short hash."""
    name = f"{url.scheme}://{authority}{url.path}"
    credentials = url.netloc.rpartition("@")[0]
    secret = f"{credentials}@{url.query}" if credentials else url.query
    return f"{name}?{hashlib.sha256(secret.encode()).hexdigest()[:8]}" if secret else name


def _authorization(url: SplitResult) -> str | None:
    if url.username is None:
        return None
    credentials = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return "Basic " + base64.b64encode(credentials.encode()).decode()
