"""The Redis of Celery's broker, used by default."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

#: Celery also takes ``ssl_cert_reqs`` as the name of the constant in :mod:`ssl`.
_SSL_FLAG = re.compile(r"([?&]ssl_cert_reqs=)CERT_(NONE|OPTIONAL|REQUIRED)\b")
_REDIS_SCHEMES = ("redis://", "rediss://", "redis+socket://", "socket://", "unix://", "sentinel://")


def is_redis(broker_url: object) -> bool:
    """Whether a broker is a Redis, by its URL or the first of several."""
    url = broker_url[0] if isinstance(broker_url, (list, tuple)) and broker_url else broker_url
    return str(url or "").startswith(_REDIS_SCHEMES)


def redis_url_of(
    broker_url: object, transport_options: Mapping[str, Any] | None = None, use_ssl: object = None
) -> str | None:
    """
    Return the URL of the broker as :class:`jobpush.store.redis.topology.Topology` reads it.

    Args:
        broker_url: Celery's ``broker_url``: a URL, several joined by ``;``, or a list of them. Without Sentinel the
            first one counts.
        transport_options: ``broker_transport_options``, which name the primary for Sentinel.
        use_ssl: ``broker_use_ssl``. Like kombu, this ignores anything but a dictionary.

    Returns:
        ``None`` if the broker is not a Redis.
    """
    given = broker_url if isinstance(broker_url, (list, tuple)) else [broker_url]
    urls = [url for one in given for url in str(one or "").split(";") if url]
    if not urls:
        return None
    tls = {name: _to_text(value) for name, value in use_ssl.items()} if isinstance(use_ssl, Mapping) else {}
    url = _SSL_FLAG.sub(lambda found: found[1] + found[2].lower(), urls[0])
    if url.startswith(("redis://", "rediss://")):
        database = parse_qs(urlsplit(url).query).get("virtual_host")
        if database:
            url = url.replace("virtual_host=", "db=", 1)
        return _with_options(url.replace("redis://", "rediss://", 1), tls) if tls else url
    if url.startswith("unix://"):
        return url
    if url.startswith(("redis+socket://", "socket://")):
        parts = urlsplit(url)
        options = {"db": parse_qs(parts.query).get("virtual_host", ["0"])[0].strip("/")}
        if parts.password:
            options["password"] = unquote(parts.password)
        return f"unix://{parts.path}?{urlencode(options)}"
    if url.startswith("sentinel://"):
        return _sentinel_url(urls, transport_options or {}, tls)
    return None


def _sentinel_url(urls: list[str], transport_options: Mapping[str, Any], tls: dict[str, str]) -> str | None:
    primary = transport_options.get("master_name")
    if not primary:
        return None  # kombu refuses it, too
    user, _, _ = urlsplit(urls[0]).netloc.rpartition("@")
    hosts = ",".join(urlsplit(url).netloc.rpartition("@")[2] for url in urls if url.startswith("sentinel://"))
    own = transport_options.get("sentinel_kwargs") or {}
    options = {"sentinel_ssl": "false", **tls, **{f"sentinel_{name}": _to_text(value) for name, value in own.items()}}
    scheme = "rediss+sentinel" if tls else "redis+sentinel"
    database = urlsplit(urls[0]).path.strip("/") or "0"
    return _with_options(f"{scheme}://{user}{'@' if user else ''}{hosts}/{quote(primary, safe='')}/{database}", options)


def _with_options(url: str, options: Mapping[str, str]) -> str:
    return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(options)}"


def _to_text(value: object) -> str:
    """Return an option of redis-py as text for a URL."""
    if isinstance(value, ssl.VerifyMode):
        value = value.name
    return "none" if value is None else re.sub(r"^CERT_(NONE|OPTIONAL|REQUIRED)$", lambda m: m[1].lower(), str(value))
