"""Servers that refuse: missing rights, a full memory, a changed password; and options and transports that work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis
import trustme

from jobpush.config import Config
from jobpush.errors import StoreError
from jobpush.events import TaskEvent, TaskState
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.processes.ports import free_port
from jobpush.store import Store, TaskWrite
from jobpush.testing import PATIENCE
from tests.waiting import wait_until

from .test_async_connections import Links

PENDING = TaskWrite("42", TaskEvent("t", TaskState.PENDING, "work", "Work", at=1.0, created_at=1.0))
PROBE = "jobpush:probe"


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(port=0) as server:
        yield server


def with_user(server: EmbeddedRedis, *rights: str) -> str:
    """Set the rights of a user; return the URL with the user."""
    with redis.Redis.from_url(server.url) as admin:
        admin.execute_command("ACL", "SETUSER", "limited", "on", "resetchannels", "resetkeys", ">pass", *rights)
    return server.url.replace("redis://", "redis://limited:pass@")


@pytest.mark.parametrize(
    ("rights", "error"),
    [
        ((), "no right to its channels: ACL SETUSER … &<JOBPUSH_PREFIX>:\\*"),
        (("&jobpush:*", "-@dangerous"), r"ACL SETUSER … \+info"),
    ],
)
def test_user_without_a_right_publishes_nothing_and_is_one_clear_error(
    server: EmbeddedRedis, rights: tuple[str, ...], error: str
) -> None:
    url = with_user(server, "+@all", "~jobpush:*", *rights)

    with closing(Store(Config(redis_url=url, publish_timeout=PATIENCE))) as store:
        for publish in (
            lambda: store.publish([PENDING]),
            lambda: store.trigger(["news"], "greeting", {}),
            lambda: store.cancel("t"),
        ):
            with pytest.raises(StoreError, match=error):
                publish()

    with redis.Redis.from_url(server.url) as admin:
        assert admin.keys() == []


def test_gateway_without_channel_rights_is_not_ready_until_it_has_them(
    server: EmbeddedRedis, caplog: pytest.LogCaptureFixture
) -> None:
    links = Links(with_user(server, "+@all", "~jobpush:*"), probe=PROBE)
    try:
        links.wait_until(lambda: links.downs >= 2 and links.ups >= 2)
        assert not links.commands.is_working
        assert not links.subscriber.is_working
        lines = [record.getMessage() for record in caplog.records if "no right to its channels" in record.getMessage()]
        assert sorted(line.split()[1] for line in lines) == ["command", "subscription"]

        with_user(server, "+@all", "~jobpush:*", "&jobpush:*")

        links.loop.call_soon(lambda: links.subscriber.subscribe(b"jobpush:news"))
        links.wait_until(lambda: b"jobpush:news" in links.subscribed)
        wait_until(lambda: links.call("GET", "jobpush:none") is None)
        assert links.commands.is_working
    finally:
        links.close()


def test_subscription_without_the_right_to_ping_never_works_and_is_logged_once(
    server: EmbeddedRedis, caplog: pytest.LogCaptureFixture
) -> None:
    links = Links(with_user(server, "+@all", "-ping", "~jobpush:*", "&jobpush:*"), probe=PROBE)
    try:
        links.wait_until(lambda: links.downs >= 2)
    finally:
        links.close()

    lines = [line for line in caplog.messages if line.startswith("The subscription connection")]
    assert len(lines) == 1
    assert "ACL SETUSER … +ping" in lines[0]


def test_missing_command_right_is_named_in_the_error(server: EmbeddedRedis) -> None:
    url = with_user(server, "+@all", "-set", "~jobpush:*", "&jobpush:*")

    with (
        closing(Store(Config(redis_url=url, publish_timeout=PATIENCE))) as store,
        pytest.raises(StoreError, match="the Redis user lacks a right"),
    ):
        store.probe()


def test_full_redis_is_one_clear_error(server: EmbeddedRedis) -> None:
    with redis.Redis.from_url(server.url) as admin:
        admin.config_set("maxmemory", "1")

    with (
        closing(Store(Config(redis_url=server.url, publish_timeout=PATIENCE))) as store,
        pytest.raises(StoreError, match="Redis is full: raise maxmemory"),
    ):
        store.probe()


def test_changed_password_is_one_clear_error(server: EmbeddedRedis, caplog: pytest.LogCaptureFixture) -> None:
    links = Links(server.url)
    try:
        links.wait_until(lambda: links.ups == 1)
        with redis.Redis.from_url(server.url) as admin:
            admin.config_set("requirepass", "new")
            admin.client_kill_filter(_type="normal", skipme=False)

        with closing(Store(Config(redis_url=server.url, publish_timeout=PATIENCE))) as store:
            with pytest.raises(StoreError, match="check user and password in JOBPUSH_REDIS_URL"):
                store.probe()

        def is_logged() -> bool:
            return any("command" in r.getMessage() and "check user and password" in r.getMessage() for r in records)

        records = caplog.records
        wait_until(is_logged)
        with redis.Redis.from_url(server.url, password="new") as admin:
            admin.config_set("requirepass", "")
        links.wait_until(lambda: links.ups == 2)
    finally:
        links.close()


def test_unsupported_options_are_overridden_on_both_kinds_of_connections(server: EmbeddedRedis) -> None:
    url = f"{server.url}?protocol=3&decode_responses=true&encoding=latin-1"
    links = Links(url)
    try:
        links.loop.call_soon(lambda: links.subscriber.subscribe(b"news"))
        links.wait_until(lambda: links.subscribed == [b"news"])
        with closing(Store(Config(redis_url=url, publish_timeout=PATIENCE))) as store:
            store.publish([PENDING])
            assert store.task("t").title == "Work"
        with redis.Redis.from_url(server.url) as admin:
            admin.publish("news", "hello")
        links.wait_until(lambda: links.messages == [(b"news", b"hello")])
    finally:
        links.close()


def test_client_certificate_is_used_and_each_wrong_file_has_its_advice(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    files = {name: str(tmp_path / f"{name}.pem") for name in ("cert", "key", "ca", "other")}
    issued.cert_chain_pems[0].write_to_path(files["cert"])
    issued.private_key_pem.write_to_path(files["key"])
    authority.cert_pem.write_to_path(files["ca"])
    trustme.CA().cert_pem.write_to_path(files["other"])
    port = free_port()
    tls = ["--tls-port", str(port), "--tls-cert-file", files["cert"], "--tls-key-file", files["key"]]
    with EmbeddedRedis(port=0, arguments=[*tls, "--tls-ca-cert-file", files["ca"], "--tls-auth-clients", "yes"]):
        without = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={files['ca']}"
        with_certificate = f"{without}&ssl_certfile={files['cert']}&ssl_keyfile={files['key']}"
        with closing(Store(Config(redis_url=with_certificate, publish_timeout=PATIENCE))) as store:
            store.probe()
        links = Links(with_certificate)
        links.wait_until(lambda: links.ups == 1)
        links.close()

        refused = {
            without: "the server ended TLS: it may need a client certificate",
            with_certificate.replace(files["ca"], files["other"]): "ssl_ca_certs must be the file of the authority",
            with_certificate.replace(
                files["ca"], "/nowhere.pem"
            ): "a file of ssl_ca_certs, ssl_certfile or ssl_keyfile",
            with_certificate.replace("127.0.0.1", "localhost"): "the certificate of the server has another name",
        }
        for url, advice in refused.items():
            with closing(Store(Config(redis_url=url, publish_timeout=PATIENCE))) as store:
                with pytest.raises(StoreError, match=advice) as raised:
                    store.probe()
            assert "\n" not in str(raised.value)
