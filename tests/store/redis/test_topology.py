"""Which URLs are read, and what becomes of them."""

from __future__ import annotations

from urllib.parse import quote

import pytest
import redis
from redis.sentinel import SentinelConnectionPool

from jobpush.errors import ConfigurationError, MissingSetting
from jobpush.store.redis.topology import Topology


@pytest.mark.parametrize(
    ("url", "name", "database"),
    [
        ("redis://h", "redis://h:6379/0", 0),
        ("redis://:pw@h:7000/3", "redis://h:7000/3", 3),
        ("rediss://user:pw@h/1?ssl_ca_certs=/ca.pem", "rediss://h:6379/1", 1),
        ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock?db=2", 2),
        ("redis+sentinel://:pw@a,b:1/main/4", "redis+sentinel://a:26379,b:1/main/4", 4),
        ("rediss+sentinel://[::1]:5/main", "rediss+sentinel://[::1]:5/main/0", 0),
        (" REDIS://:pw@h/2\n", "redis://h:6379/2", 2),
        ("redis+sentinel://:pw@a, b:1/main", "redis+sentinel://a:26379,b:1/main/0", 0),
        ("redis+cluster://user:pw@a,b:7000", "redis+cluster://a:6379,b:7000", 0),
    ],
)
def test_name_for_the_log_has_the_servers_and_no_password(url: str, name: str, database: int) -> None:
    topology = Topology.parse(url)

    assert (topology.name, topology.database) == (name, database)
    assert "pw" not in repr(topology)


@pytest.mark.parametrize(
    "url",
    [
        "bogus",
        "http://:hunter2@host",
        "sentinel://:hunter2@host",
        "redis://host:port",
        "redis://:hunter2#x@host/0",
        "redis://:hunter2/x@host/0",
        "redis://user:1/hunter2@host/0",
        "redis://:hunter2@host/first",
        "redis://:hunter2@host/0?no_such_option=1",
        "redis+sentinel://:hunter2@a,b",
        "redis+sentinel://:hunter2@a,/main/0",
        "redis+sentinel://:hunter2@a:port/main/0",
        "redis+sentinel://:hunter2@a;b/main/0",
        "redis+cluster://:hunter2@a,b/1",
        "redis+unknown://:hunter2@a",
    ],
)
def test_wrong_url_is_refused_without_repeating_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="JOBPUSH_REDIS_URL is not the URL of a Redis") as raised:
        Topology.parse(url)

    assert "hunter2" not in str(raised.value)


def test_missing_url_is_an_error_that_names_the_setting() -> None:
    with pytest.raises(MissingSetting, match="JOBPUSH_REDIS_URL is not set"):
        Topology.parse("")


@pytest.mark.parametrize(
    "option",
    [
        "protocol=3",
        "decode_responses=True",
        "encoding=latin-1",
        "socket_timeout=99",
        "retry_on_timeout=True",
        "max_connections=1",
        "health_check_interval=1",
    ],
)
def test_options_owned_by_jobpush_are_overridden(option: str) -> None:
    pool = Topology.parse(f"redis://h/0?{option}").make_pool(1.5)

    options = pool.connection_kwargs
    assert (options["protocol"], options["socket_timeout"], options["socket_connect_timeout"]) == (2, 1.5, 1.5)
    assert not {"decode_responses", "encoding", "retry_on_timeout", "health_check_interval"} & set(options)
    assert pool.max_connections > 1_000_000


@pytest.mark.parametrize("scheme", ["redis://{}@h/0", "redis+sentinel://{}@h/main/0", "redis+cluster://{}@h"])
@pytest.mark.parametrize("password", ["a/b", "p@ss:w", "100%", "#?&=", "pläne ☃", "[x]", "a+b"])
def test_percent_escapes_in_a_password_are_decoded(scheme: str, password: str) -> None:
    topology = Topology.parse(scheme.format(f"{quote(password, safe='')}:{quote(password, safe='')}"))

    assert (topology.options["username"], topology.options["password"]) == (password, password)


def test_sentinels_have_credentials_and_tls_of_their_own() -> None:
    url = "rediss+sentinel://u:data@a,b/main/0?ssl_ca_certs=/ca.pem&sentinel_username=s&sentinel_password=watch"
    topology = Topology.parse(url)

    assert topology.options["password"] == "data"
    assert topology.sentinel_options["username"] == "s"
    assert topology.sentinel_options["password"] == "watch"
    assert topology.sentinel_options["ssl"] is True
    assert topology.sentinel_options["ssl_ca_certs"] == "/ca.pem"
    pool = topology.make_pool(1)
    assert isinstance(pool, SentinelConnectionPool)
    assert issubclass(pool.connection_class, redis.SSLConnection)


def test_tls_may_be_for_redis_or_for_sentinels_alone() -> None:
    only_redis = Topology.parse("rediss+sentinel://a/main/0?ssl_ca_certs=/ca.pem&sentinel_ssl=false")
    only_sentinels = Topology.parse("redis+sentinel://a/main/0?sentinel_ssl=true&sentinel_ssl_ca_certs=/ca.pem")

    assert only_redis.sentinel_options["ssl"] is False
    assert "ssl_ca_certs" not in only_redis.sentinel_options
    assert only_sentinels.connection_class is redis.Connection
    assert only_sentinels.sentinel_options["ssl_ca_certs"] == "/ca.pem"


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("ssl_cert_reqs=CERT_NONE", {"ssl_cert_reqs": "none"}),
        ("ssl_cert_reqs=Optional&ssl_ca_path=%2Fa%20b", {"ssl_cert_reqs": "optional", "ssl_ca_path": "/a b"}),
        ("ssl_min_version=TLSv1_3", {"ssl_min_version": 772}),
        ("ssl_min_version=771", {"ssl_min_version": 771}),
        ("ssl_validate_ocsp=true", {"ssl_validate_ocsp": True}),
        ("ssl_validate_ocsp_stapled=False", {"ssl_validate_ocsp_stapled": False}),
    ],
)
def test_options_of_tls_may_have_the_names_of_constants(query: str, options: dict[str, object]) -> None:
    for url in (f"rediss://h/1?{query}", f"rediss+sentinel://a,b/main?{query}", f"rediss+cluster://a?{query}"):
        found = Topology.parse(url).options
        assert {name: found[name] for name in options} == options
