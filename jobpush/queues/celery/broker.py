"""The Redis of Celery's broker, used by default."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit


@lru_cache(maxsize=16)
def is_redis(app: Any) -> bool:
    """Return whether an app publishes its tasks through a Redis; read once, since each published task asks."""
    return _connection_of(app) is not None


def redis_url_of(app: Any) -> str | None:
    """
    Return the URL of an app's broker as :class:`jobpush.store.redis.topology.Topology` reads it.

    Kombu reads the settings: ``broker_url`` or ``broker_write_url``, the older ones such as ``broker_password``, and
    ``broker_use_ssl``. Of several URLs the first one counts, except for Sentinels.

    Args:
        app: A Celery app.

    Returns:
        ``None`` if the broker is not a Redis, or if kombu refuses its settings.
    """
    connection = _connection_of(app)
    if connection is None:
        return None
    tls = _tls_of(app, connection)
    database = str(connection.virtual_host or "").removeprefix("/") or "0"
    if connection.transport_cls == "sentinel":
        return _sentinel_url(connection, database, tls)
    if connection.hostname and "://" in connection.hostname:
        return _socket_url(connection.hostname)
    host = _host(connection.hostname or "localhost", connection.port or 6379)
    return _with_options(f"{'rediss' if tls else 'redis'}://{_user(connection)}{host}/{quote(database, safe='')}", tls)


def _connection_of(app: Any) -> Any:
    """Return kombu's connection to the broker, which is not opened; ``None`` if that is no Redis."""
    with suppress(Exception):  # a transport that does not exist, or cannot be imported: Celery itself reports it
        connection = app.connection_for_write()
        return connection if connection.get_transport_cls().driver_type == "redis" else None
    return None


def _tls_of(app: Any, connection: Any) -> dict[str, str]:
    """
    Return the options of TLS; empty without TLS.

    Like kombu, this ignores a ``broker_use_ssl`` that is no dictionary. Unlike kombu, it verifies the certificate of a
    ``rediss://`` without options.
    """
    if not isinstance(connection.ssl, Mapping) or not connection.ssl:
        return {}
    options = _as_text(connection.ssl)
    is_given = isinstance(app.conf.broker_use_ssl, Mapping) or "ssl_cert_reqs=" in str(app.conf.broker_write_url)
    return options if is_given else {**options, "ssl_cert_reqs": "required"}


def _socket_url(url: str) -> str:
    """Return the URL of a unix socket; kombu keeps the form ``socket:///path?virtual_host=0`` as it is."""
    parts = urlsplit(url)
    options = {"db": parse_qs(parts.query).get("virtual_host", ["0"])[0].strip("/")}
    for name, value in (("username", parts.username), ("password", parts.password)):
        if value:
            options[name] = unquote(value)
    return f"unix://{parts.path}?{urlencode(options)}"


def _sentinel_url(connection: Any, database: str, tls: dict[str, str]) -> str | None:
    primary = connection.transport_options.get("master_name")
    if not primary:
        return None  # kombu refuses it, too
    urls = [urlsplit(url) for url in connection.alt if url.startswith("sentinel://")]
    hosts = [url.netloc.rpartition("@")[2] for url in urls] or [_host(connection.hostname, connection.port or 26379)]
    own = _as_text(connection.transport_options.get("sentinel_kwargs") or {})
    options = {"sentinel_ssl": "false", **tls, **{f"sentinel_{name}": value for name, value in own.items()}}
    path = f"{quote(primary, safe='')}/{quote(database, safe='')}"
    scheme = "rediss+sentinel" if tls else "redis+sentinel"
    return _with_options(f"{scheme}://{_user(connection)}{','.join(hosts)}/{path}", options)


def _user(connection: Any) -> str:
    user, password = (quote(text or "", safe="") for text in (connection.userid, connection.password))
    return f"{user}:{password}@" if user or password else ""


def _host(name: str, port: int) -> str:
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def _with_options(url: str, options: Mapping[str, str]) -> str:
    return f"{url}?{urlencode(options)}" if options else url


def _as_text(options: Mapping[str, Any]) -> dict[str, str]:
    """Return options of redis-py as text for a URL; ``None`` stands for an option's default, except of the first."""
    named = {name: value for name, value in options.items() if value is not None or name == "ssl_cert_reqs"}
    return {name: _cert_reqs(value) if name == "ssl_cert_reqs" else _to_text(value) for name, value in named.items()}


def _cert_reqs(value: object) -> str:
    """Return redis-py's name of a constant of :mod:`ssl`, also given as its number or name."""
    if isinstance(value, int):
        value = ssl.VerifyMode(value).name
    return "none" if value is None else str(value).removeprefix("CERT_").lower()


def _to_text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(getattr(one, "name", None) or str(one) for one in value)  # flags of ssl.VerifyFlags
    return str(value)
