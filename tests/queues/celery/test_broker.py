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


def read(**conf: object) -> str | None:
    """Return the URL of the Redis of an app with these settings."""
    app = Celery("settings", set_as_current=False)
    app.conf.update(conf)
    return redis_url_of(app)


@pytest.mark.parametrize(
    ("conf", "redis_url"),
    [
        ({"broker_url": "redis://:secret@host:6380/3"}, "redis://:secret@host:6380/3"),
        ({"broker_url": "redis://"}, "redis://localhost:6379/0"),
        ({"broker_url": "redis://host//3"}, "redis://host:6379/3"),
        ({"broker_url": "REDIS://[::1]/3"}, "redis://[::1]:6379/3"),
        ({"broker_url": "rediss://host/0"}, "rediss://host:6379/0?ssl_cert_reqs=required"),
        ({"broker_url": "rediss://host/0?ssl_cert_reqs=required"}, "rediss://host:6379/0?ssl_cert_reqs=required"),
        ({"broker_url": "rediss://host/0?ssl_cert_reqs=CERT_NONE"}, "rediss://host:6379/0?ssl_cert_reqs=none"),
        ({"broker_url": "redis://host/0?ssl_cert_reqs=optional"}, "rediss://host:6379/0?ssl_cert_reqs=optional"),
        (
            {"broker_url": "rediss://host/0?ssl_ca_certs=%2Fca%201"},
            "rediss://host:6379/0?ssl_ca_certs=%2Fca+1&ssl_cert_reqs=required",
        ),
        ({"broker_url": "redis+socket:///run/redis.sock"}, "unix:///run/redis.sock?db=0"),
        ({"broker_url": "redis+socket:///run/redis.sock?virtual_host=/2"}, "unix:///run/redis.sock?db=2"),
        (
            {"broker_url": "redis+socket://u:p%40ss@/run/redis.sock"},
            "unix:///run/redis.sock?db=0&username=u&password=p%40ss",
        ),
        ({"broker_url": "redis://one;redis://two"}, "redis://one:6379/0"),
        ({"broker_url": ["redis://one", "redis://two"]}, "redis://one:6379/0"),
        ({"broker_write_url": "redis://write/1"}, "redis://write:6379/1"),
        ({"broker_url": "amqp://host", "broker_write_url": "redis://write/1"}, "redis://write:6379/1"),
        ({"broker_url": "redis://host", "broker_vhost": "4", "broker_password": "p/w"}, "redis://:p%2Fw@host:6379/4"),
        ({"broker_transport": "redis", "broker_host": "host", "broker_port": 6380}, "redis://host:6380/0"),
        ({"broker_url": "amqp://guest@host//"}, None),
        ({"broker_url": "sentinel://host:26379"}, None),
        ({"broker_url": "nonsense://host"}, None),
        ({}, None),
    ],
)
def test_url_of_the_broker(conf: dict[str, object], redis_url: str | None) -> None:
    assert read(**conf) == redis_url


def test_client_certificates_of_the_broker_are_used() -> None:
    tls = {
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
        "ssl_ca_certs": "/etc/a b/ca.pem",
        "ssl_certfile": "/etc/client.pem",
        "ssl_keyfile": "/etc/client.key",
        "ssl_check_hostname": False,
    }
    for broker_url in ("redis://:p%2Fw@host/1", "rediss://:p%2Fw@host/1"):
        topology = Topology.parse(read(broker_url=broker_url, broker_use_ssl=tls) or "")

        assert issubclass(topology.connection_class, redis.SSLConnection)
        assert topology.database == 1
        assert topology.options["password"] == "p/w"
        assert topology.options["ssl_cert_reqs"] == "required"
        assert topology.options["ssl_ca_certs"] == "/etc/a b/ca.pem"
        assert topology.options["ssl_certfile"] == "/etc/client.pem"
        assert topology.options["ssl_keyfile"] == "/etc/client.key"
        assert topology.options["ssl_check_hostname"] is False


@pytest.mark.parametrize("cert_reqs", [ssl.CERT_NONE, 0, None, "CERT_NONE", "none"])
def test_options_without_a_value_are_left_out(cert_reqs: object) -> None:
    tls = {"ssl_cert_reqs": cert_reqs, "ssl_certfile": None, "ssl_keyfile": None}

    assert read(broker_url="rediss://host/1", broker_use_ssl=tls) == "rediss://host:6379/1?ssl_cert_reqs=none"


@pytest.mark.parametrize("no_dictionary", [True, False, None])
def test_other_values_of_broker_use_ssl_are_ignored_as_in_kombu(no_dictionary: object) -> None:
    assert read(broker_url="redis://host/1", broker_use_ssl=no_dictionary) == "redis://host:6379/1"


def test_sentinels_of_the_broker() -> None:
    options = {
        "master_name": "my/primary",
        "sentinel_kwargs": {"password": "w@tch", "ssl": True, "ssl_ca_certs": "/s.pem", "username": None},
    }
    url = read(
        broker_url="sentinel://user:p%40ss@a:26379/2;sentinel://b:26380;sentinel://c",
        broker_transport_options=options,
        broker_use_ssl={"ssl_cert_reqs": ssl.CERT_NONE, "ssl_certfile": "/client.pem"},
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
    urls, tls = ["sentinel://a", "sentinel://b"], {"ssl_ca_certs": "/ca.pem"}
    url = read(broker_url=urls, broker_transport_options={"master_name": "main"}, broker_use_ssl=tls)

    assert Topology.parse(url or "").sentinel_options["ssl"] is False


def test_one_sentinel_without_a_port() -> None:
    url = read(broker_url="sentinel://a/2", broker_transport_options={"master_name": "main"})

    assert url == "redis+sentinel://a:26379/main/2?sentinel_ssl=false"


def test_broker_of_the_command_line_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://option/3")  # as celery --broker sets it
    app = Celery("settings", broker="amqp://unused", set_as_current=False)

    assert JobPush(app).config.redis_url == "redis://option:6379/3"


@pytest.mark.parametrize("broker_url", ["amqp://guest@nowhere//", "sentinel://nowhere", "memory://", "x://", None])
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

    assert JobPush(app).config.redis_url == "redis://broker:6379/0"
    monkeypatch.setenv("JOBPUSH_REDIS_URL", "redis://environment/0")
    assert JobPush(app).config.redis_url == "redis://environment/0"
    app.conf.jobpush_redis_url = "redis://conf/0"
    assert JobPush(app).config.redis_url == "redis://conf/0"
    assert JobPush(app, redis_url="redis://keyword/0").config.redis_url == "redis://keyword/0"


def test_settings_of_flask_in_celerys_configuration_are_used() -> None:
    app = Celery("settings", broker="redis://broker/0", set_as_current=False)
    app.conf.update({"JOBPUSH_REDIS_URL": "redis://flask/0", "JOBPUSH_PREFIX": "shop"})

    assert (JobPush(app).config.redis_url, JobPush(app).config.prefix) == ("redis://flask/0", "shop")


def test_settings_are_read_on_first_use() -> None:
    app = Celery("late", set_as_current=False)
    jobpush = JobPush()
    jobpush.init_celery(app)

    app.conf.update(broker_url="redis://late/0", jobpush_prefix="late")

    assert (jobpush.config.redis_url, jobpush.config.prefix) == ("redis://late:6379/0", "late")
