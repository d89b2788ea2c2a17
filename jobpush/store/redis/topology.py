"""The location of Redis: one server, a primary behind Sentinel, or a cluster."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool

from ...errors import ConfigurationError, MissingSetting

FORMS = (
    "redis://host:6379/0, rediss://…, unix:///path/redis.sock, redis+sentinel://host1,host2/primary/0 or "
    "redis+cluster://host1,host2 (rediss+… for TLS; %-escape special characters of a password)"
)

Address = tuple[str, int]
OnConnect = Callable[[Any], None]

#: Options of a URL that jobpush overrides: it reads bytes of RESP2, and has its own timeouts and retries.
_FIXED = frozenset(
    "protocol decode_responses encoding encoding_errors socket_timeout socket_connect_timeout retry_on_timeout "
    "retry_on_error single_connection_client max_connections health_check_interval timeout".split()
)
#: Options that redis-py compares with ``True``, and reads from a URL as text.
_SWITCHES = ("ssl_validate_ocsp", "ssl_validate_ocsp_stapled")
_FALSE = ("", "0", "f", "false", "n", "no", "off")
_PORTS = {"sentinel": 26379, "cluster": 6379}
#: More connections than threads can use: a pool that refuses one would lose an event.
_ANY_NUMBER = 2**31


@dataclass(frozen=True)
class Topology:
    """
    The servers of one Redis, and how to connect to them.

    Args:
        name: For logs; without user, password and options.
        database: Number of the database.
        connection_class: redis-py's, to the servers that hold the data.
        options: Its arguments.
        nodes: Some servers of the cluster, or the Sentinels; empty for a single server.
        primary: The name by which the Sentinels know the primary; ``None``: no Sentinel.
        sentinel_options: Arguments of redis-py's client of each Sentinel.
    """

    name: str
    database: int
    connection_class: Any = field(repr=False)
    options: dict[str, Any] = field(repr=False)
    nodes: tuple[Address, ...] = ()
    primary: str | None = None
    sentinel_options: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_cluster(self) -> bool:
        """Whether the keys are spread over several primaries."""
        return bool(self.nodes) and self.primary is None

    @staticmethod
    @cache
    def parse(url: str) -> Topology:
        """
        Read a URL.

        Raises:
            MissingSetting: If there is none.
            ConfigurationError: If it is invalid. The message does not repeat it, because it may contain a password.
        """
        if not url:
            raise MissingSetting(
                "JOBPUSH_REDIS_URL", f"no Celery application with a Redis broker was found instead; give {FORMS}"
            )
        try:
            given, _, rest = url.strip().partition("://")
            url = f"{given.lower()}://{rest}"
            parts = urlsplit(url)
            if parts.fragment:
                raise ValueError("it has a #, which must be written as %23 in a password")
            scheme, _, kind = parts.scheme.partition("+")
            if scheme in ("redis", "rediss") and kind in _PORTS:
                return _parse_several(parts, kind, is_tls=scheme == "rediss")
            if kind or scheme not in ("redis", "rediss", "unix"):
                raise ValueError("its scheme is unknown")
            connection_class, options = _read_options(url, parts.path if scheme != "unix" else "")
        except ValueError as exc:
            raise ConfigurationError(f"JOBPUSH_REDIS_URL is not the URL of a Redis: {exc}; give {FORMS}") from None
        database = options.get("db", 0)
        if scheme == "unix":
            return Topology(f"unix://{parts.path}?db={database}", database, connection_class, options)
        host, port = options.get("host", "localhost"), options.get("port", 6379)
        return Topology(f"{scheme}://{join_address(host, port)}/{database}", database, connection_class, options)

    def make_pool(
        self, timeout: float, *, on_connect: OnConnect | None = None, address: Address | None = None
    ) -> redis.ConnectionPool:
        """
        Return a pool that connects to the primary.

        Args:
            timeout: Seconds to connect, and to wait for a reply.
            on_connect: Called with each new connection, in place of its ``on_connect()``.
            address: Of a primary, if there are several.
        """
        timeouts = {"socket_timeout": timeout, "socket_connect_timeout": timeout, "retry": Retry(NoBackoff(), 0)}
        options = {**self.options, **timeouts, "protocol": 2}
        if address is not None:
            options["host"], options["port"] = address
        more: dict[str, Any] = {"redis_connect_func": on_connect, "max_connections": _ANY_NUMBER}
        if self.primary is None:
            return redis.ConnectionPool(connection_class=self.connection_class, **options, **more)
        sentinels = _Sentinels(self, {**self.sentinel_options, **timeouts, "protocol": 2}, options)
        is_tls = issubclass(self.connection_class, redis.SSLConnection)
        options = {name: value for name, value in options.items() if name not in ("host", "port")}
        return SentinelConnectionPool(self.primary, sentinels, ssl=is_tls, **options, **more)  # type: ignore[no-untyped-call]


class _Sentinels(Sentinel):
    """Finds the primary. Each answer is verified with the named server, because Sentinels may disagree."""

    def __init__(self, topology: Topology, sentinel_options: dict[str, Any], options: dict[str, Any]) -> None:
        super().__init__(topology.nodes, sentinel_kwargs=sentinel_options)  # type: ignore[no-untyped-call]
        self._connection_class, self._options = topology.connection_class, dict(options)

    def discover_master(self, service_name: str) -> Address:
        """
        Return the address of the primary.

        Raises:
            MasterNotFoundError: If no Sentinel names a primary; the message has the reason of each.
        """
        reasons: dict[str, None] = {}
        for number, sentinel in enumerate(self.sentinels):
            at = join_address(*(sentinel.connection_pool.connection_kwargs[name] for name in ("host", "port")))
            try:
                address: Any = sentinel.sentinel_get_master_addr_by_name(service_name)
            except redis.RedisError as exc:
                reasons[f"Sentinel {at} failed ({exc})"] = None
                continue
            if address is None:
                reasons[f"Sentinel {at} knows no primary of this name"] = None
                continue
            host, port = address
            address = (host.decode() if isinstance(host, bytes) else host, port)
            reason = self._why_not_primary(address)
            if reason is None:
                self.sentinels.insert(0, self.sentinels.pop(number))
                return address  # type: ignore[no-any-return]
            reasons[f"Sentinel {at} names {join_address(*address)}, which {reason}"] = None
        raise MasterNotFoundError(f"no primary {service_name!r} found: {'; '.join(reasons)}")

    def _why_not_primary(self, address: Address) -> str | None:
        options = {**self._options, "host": address[0], "port": address[1]}
        pool = redis.ConnectionPool(connection_class=self._connection_class, **options)
        try:
            role: Any = redis.Redis(connection_pool=pool).role()
        except redis.exceptions.NoPermissionError:
            return None  # the user lacks the right to run ROLE; a write shows it
        except redis.RedisError as exc:
            return f"failed ({exc})"
        finally:
            pool.disconnect()
        return None if role[0] in (b"master", "master") else "is a replica"


def _parse_several(parts: SplitResult, kind: str, *, is_tls: bool) -> Topology:
    """``redis+sentinel://user:password@host1,host2/primary/0`` and ``redis+cluster://host1,host2``."""
    user, _, hosts = parts.netloc.rpartition("@")
    nodes = tuple(_parse_address(host, _PORTS[kind]) for host in hosts.split(","))
    names = [unquote(name) for name in parts.path.split("/") if name]
    primary = names.pop(0) if kind == "sentinel" and names else None
    if kind == "sentinel" and primary is None:
        raise ValueError("it does not name the primary behind its hosts")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    for_sentinels = {name[9:]: query.pop(name) for name in list(query) if name.startswith("sentinel_")}
    path = "/".join(names)
    host = join_address(*nodes[0])
    scheme = "rediss" if is_tls else "redis"
    connection_class, options = _read_options(
        f"{scheme}://{user}{'@' if user else ''}{host}/{path}?{urlencode(query)}", path
    )
    database = options.get("db", 0)
    if kind == "cluster" and database:
        raise ValueError("a cluster has no database but 0")
    where = f"/{primary}/{database}" if primary else ""
    return Topology(
        name=f"{parts.scheme}://{','.join(join_address(*node) for node in nodes)}{where}",
        database=database,
        connection_class=connection_class,
        options=options,
        nodes=nodes,
        primary=primary,
        sentinel_options=_sentinel_options(for_sentinels, query, is_tls=is_tls) if primary else {},
    )


def _sentinel_options(own: dict[str, str], query: dict[str, str], *, is_tls: bool) -> dict[str, Any]:
    is_secure = own.pop("ssl", str(is_tls)).lower() in ("true", "1", "yes")
    if is_secure and not any(name.startswith("ssl_") for name in own):
        own |= {name: value for name, value in query.items() if name.startswith("ssl_")}
    user: dict[str, Any] = {name: own.pop(name) for name in ("username", "password") if name in own}
    _, options = _read_options(f"{'rediss' if is_secure else 'redis'}://?{urlencode(own)}", "")
    return {**options, **user, "ssl": is_secure}


def _read_options(url: str, path: str) -> tuple[Any, dict[str, Any]]:
    """Return redis-py's connection class and its arguments."""
    if path.strip("/") and not path.strip("/").isdecimal():
        raise ValueError("its database is not a number")  # redis-py takes database 0 instead
    options: dict[str, Any] = dict(parse_url(_with_words_of_redis_py(url)))  # type: ignore[no-untyped-call]
    options = {name: value for name, value in options.items() if name not in _FIXED}
    for name in _SWITCHES:
        if name in options:
            options[name] = str(options[name]).lower() not in _FALSE
    if "ssl_min_version" in options:
        options["ssl_min_version"] = int(options["ssl_min_version"])  # older versions of redis-py leave it as text
    connection_class = options.pop("connection_class", redis.Connection)
    try:
        connection_class(**options)
    except (TypeError, redis.RedisError) as exc:
        raise ValueError(f"one of its options is wrong ({exc})") from None
    return connection_class, options


def _with_words_of_redis_py(url: str) -> str:
    """Return a URL whose options name constants of :mod:`ssl`, as Celery takes them, with redis-py's values."""
    base, _, query = url.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    cert_reqs, version = options.get("ssl_cert_reqs", ""), options.get("ssl_min_version", "")
    if "ssl_cert_reqs" in options:
        options["ssl_cert_reqs"] = cert_reqs.upper().removeprefix("CERT_").lower()
    if version in ssl.TLSVersion.__members__:
        options["ssl_min_version"] = str(ssl.TLSVersion[version].value)
    return f"{base}?{urlencode(options)}" if options else url


def _parse_address(text: str, port: int) -> Address:
    parts = urlsplit(f"//{text.strip()}")
    if not parts.hostname:
        raise ValueError("one of its hosts has no name")
    if re.search(r"[;\s]", parts.hostname):
        raise ValueError("its hosts must be separated by commas")
    return parts.hostname, parts.port or port


def join_address(host: str, port: int) -> str:
    """Return ``host:port``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
