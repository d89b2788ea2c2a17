"""Celery's broker is the default Redis for events."""

from __future__ import annotations

import ssl

import pytest
import redis
from celery import Celery

from jobpush import JobPush
from jobpush.errors import MissingSetting
from jobpush.queues.celery.broker import redis_url_of
from jobpush.store.redis.topology import Topology


@pytest.mark.parametrize(
    ("broker_url", "redis_url"),
    [
        ("redis://:secret@host:6380/3", "redis://:secret@host:6380/3"),
        ("rediss://host/0?ssl_cert_reqs=required", "rediss://host/0?ssl_cert_reqs=required"),
        ("rediss://host/0?ssl_cert_reqs=CERT_REQUIRED", "rediss://host/0?ssl_cert_reqs=required"),
        ("rediss://host/0?a=b&ssl_cert_reqs=CERT_NONE&c=d", "rediss://host/0?a=b&ssl_cert_reqs=none&c=d"),
        ("redis+socket:///run/redis.sock", "unix:///run/redis.sock?db=0"),
        ("redis+socket:///run/redis.sock?virtual_host=2", "unix:///run/redis.sock?db=2"),
        ("redis://one;redis://two", "redis://one"),
        (["redis://one", "redis://two"], "redis://one"),
        ("amqp://guest@host//", None),
        ("sentinel://host:26379", None),
        ("redis://host/?virtual_host=4", "redis://host/?db=4"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("redis+socket://:p%40ss@/run/redis.sock", "unix:///run/redis.sock?db=0&password=p%40ss"),
        (None, None),
        ([], None),
    ],
)
def test_url_of_the_broker(broker_url: object, redis_url: str | None) -> None:
    assert redis_url_of(broker_url) == redis_url


def test_client_certificates_of_the_broker_are_used() -> None:
    tls = {
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
        "ssl_ca_certs": "/etc/a b/ca.pem",
        "ssl_certfile": "/etc/client.pem",
        "ssl_keyfile": "/etc/client.key",
        "ssl_check_hostname": False,
    }
    for broker_url in ("redis://:p%2Fw@host/1", "rediss://:p%2Fw@host/1"):
        topology = Topology.parse(redis_url_of(broker_url, {}, tls) or "")

        assert issubclass(topology.connection_class, redis.SSLConnection)
        assert topology.database == 1
        assert topology.options["password"] == "p/w"
        assert topology.options["ssl_cert_reqs"] == "required"
        assert topology.options["ssl_ca_certs"] == "/etc/a b/ca.pem"
        assert topology.options["ssl_certfile"] == "/etc/client.pem"
        assert topology.options["ssl_keyfile"] == "/etc/client.key"
        assert topology.options["ssl_check_hostname"] is False


@pytest.mark.parametrize("no_dictionary", [True, False, None])
def test_other_values_of_broker_use_ssl_are_ignored_as_in_kombu(no_dictionary: object) -> None:
    assert redis_url_of("redis://host/1", {}, no_dictionary) == "redis://host/1"


def test_sentinels_of_the_broker() -> None:
    url = redis_url_of(
        "sentinel://user:p%40ss@a:26379/2;sentinel://b:26380;sentinel://c",
        {"master_name": "my/primary", "sentinel_kwargs": {"password": "w@tch", "ssl": True, "ssl_ca_certs": "/s.pem"}},
        {"ssl_cert_reqs": ssl.CERT_NONE, "ssl_certfile": "/client.pem"},
    )
    topology = Topology.parse(url or "")

    assert topology.nodes == (("a", 26379), ("b", 26380), ("c", 26379))
    assert (topology.primary, topology.database) == ("my/primary", 2)
    assert (topology.options["username"], topology.options["password"]) == ("user", "p@ss")
    assert issubclass(topology.connection_class, redis.SSLConnection)
    assert topology.options["ssl_cert_reqs"] == "none"
    assert topology.sentinel_options["password"] == "w@tch"
    assert topology.sentinel_options["ssl"] is True
    assert topology.sentinel_options["ssl_ca_certs"] == "/s.pem"


def test_sentinels_without_tls_beside_a_redis_with_tls() -> None:
    url = redis_url_of(["sentinel://a", "sentinel://b"], {"master_name": "main"}, {"ssl_ca_certs": "/ca.pem"})

    assert Topology.parse(url or "").sentinel_options["ssl"] is False


def test_broker_of_the_command_line_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://option/3")  # as celery --broker sets it
    app = Celery("settings", broker="amqp://unused", set_as_current=False)

    assert JobPush(app).config.redis_url == "redis://option/3"


@pytest.mark.parametrize("broker_url", ["amqp://guest@nowhere//", "sentinel://nowhere", "memory://", None])
def test_broker_other_than_redis_is_an_error_that_names_the_setting(broker_url: str | None) -> None:
    app = Celery("settings", broker=broker_url, set_as_current=False)

    with pytest.raises(MissingSetting, match="JOBPUSH_REDIS_URL is not set"):
        JobPush(app).notify("42", "greeting", {})


def test_worker_without_a_redis_does_not_start() -> None:
    app = Celery("settings", broker="memory://", set_as_current=False)
    JobPush(app)

    with pytest.raises(SystemExit, match="jobpush: JOBPUSH_REDIS_URL is not set"):
        app.WorkController(pool="solo", hostname="no-redis@localhost")


def test_task_is_published_without_progress_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    app = Celery("settings", broker="memory://", set_as_current=False)
    jobpush = JobPush(app)

    @app.task(name="settings.work")
    @jobpush.track(user="user_id")
    def work(user_id: str) -> None:
        raise AssertionError("no worker runs")

    work.delay("42")
    work.delay("42")

    (record,) = [record for record in caplog.records if record.name == "jobpush"]
    assert "tasks are published without progress: JOBPUSH_REDIS_URL is not set" in record.getMessage()


def test_settings_take_precedence_over_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Celery("settings", broker="redis://broker/0", set_as_current=False)

    assert JobPush(app).config.redis_url == "redis://broker/0"
    monkeypatch.setenv("JOBPUSH_REDIS_URL", "redis://environment/0")
    assert JobPush(app).config.redis_url == "redis://environment/0"
    app.conf.jobpush_redis_url = "redis://conf/0"
    assert JobPush(app).config.redis_url == "redis://conf/0"
    assert JobPush(app, redis_url="redis://keyword/0").config.redis_url == "redis://keyword/0"


def test_settings_are_read_on_first_use() -> None:
    app = Celery("late", set_as_current=False)
    jobpush = JobPush()
    jobpush.init_celery(app)

    app.conf.update(broker_url="redis://late/0", jobpush_prefix="late")

    assert (jobpush.config.redis_url, jobpush.config.prefix) == ("redis://late/0", "late")
