"""The broker's address as a Redis client takes it: who runs Celery on Redis has to set nothing."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

#: A setting that Celery also takes by the name of the constant in :mod:`ssl`.
_SSL_FLAG = re.compile(r"([?&]ssl_cert_reqs=)CERT_(NONE|OPTIONAL|REQUIRED)\b")


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
        return _SSL_FLAG.sub(lambda found: found[1] + found[2].lower(), url)
    if url.startswith(("redis+socket://", "socket://")):
        parts = urlsplit(url)
        database = parse_qs(parts.query).get("virtual_host", ["0"])[0]
        return f"unix://{parts.path}?db={database.strip('/')}"
    return None
