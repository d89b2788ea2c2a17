"""The broker's address as a Redis client takes it: who runs Celery on Redis has to set nothing."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit


def redis_url_of(broker_url: object) -> str | None:
    """
    The Redis that Celery's broker is.

    Args:
        broker_url: Celery's setting: a URL, several joined by ``;``, or a list of them. The first counts.

    Returns:
        A URL for redis-py; ``None`` if the broker is no Redis, or one that redis-py has no URL for (Sentinel).
    """
    first = broker_url[0] if isinstance(broker_url, (list, tuple)) and broker_url else broker_url
    url = str(first or "").partition(";")[0]
    if url.startswith(("redis://", "rediss://", "unix://")):
        return url
    if url.startswith(("redis+socket://", "socket://")):
        parts = urlsplit(url)
        database = parse_qs(parts.query).get("virtual_host", ["0"])[0]
        return f"unix://{parts.path}?db={database.strip('/')}"
    return None
