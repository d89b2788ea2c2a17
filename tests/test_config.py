"""Where settings come from, and how wrong ones are reported."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jobpush.config import Config, unknown_variables, warn_about_unknown_variables
from jobpush.errors import ConfigurationError, MissingSetting


def test_keyword_overrides_the_application_and_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBPUSH_PREFIX", "from-environment")

    assert Config.load({"prefix": "keyword"}, {"prefix": "application"}).prefix == "keyword"
    assert Config.load({"prefix": None}, {"prefix": "application"}).prefix == "application"
    assert Config.load({}, {}).prefix == "from-environment"


def test_text_from_the_environment_gets_the_type_of_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBPUSH_MIN_INTERVAL", "0.5")
    monkeypatch.setenv("JOBPUSH_MAX_TASKS", "7")
    monkeypatch.setenv("JOBPUSH_ALLOWED_ORIGINS", "https://a.example, https://b.example,")

    config = Config.load({}, {})

    assert config.min_interval == 0.5
    assert config.max_tasks == 7
    assert config.allowed_origins == ("https://a.example", "https://b.example")


def test_error_of_an_unknown_keyword_lists_the_settings() -> None:
    with pytest.raises(ConfigurationError, match="unknown setting 'redis'.*redis_url"):
        Config.load({"redis": "redis://"}, {})


def test_error_of_a_wrong_type_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBPUSH_MAX_TASKS", "many")

    with pytest.raises(ConfigurationError, match="JOBPUSH_MAX_TASKS must be of type int, not 'many'"):
        Config.load({}, {})


@pytest.mark.parametrize("value", [-1, "-0.5", "nan", float("inf")])
@pytest.mark.parametrize("name", ["grace", "max_tasks"])
def test_number_out_of_range_is_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"JOBPUSH_{name.upper()} must be"):
        Config.load({name: value}, {})


def test_heartbeat_of_streams_is_within_the_patience_of_pages() -> None:
    source = (Path(__file__).parents[1] / "client" / "src" / "fallback.js").read_text(encoding="utf-8")
    assert "MAX_SILENCE_MS = 25_000" in source

    with pytest.raises(ConfigurationError, match="JOBPUSH_STREAM_HEARTBEAT must be at most 20: .* 25 seconds"):
        Config.load({"stream_heartbeat": 21}, {})


@pytest.mark.parametrize("prefix", ["", "a b", "a{b}", "{a}", "a\n"])
def test_prefix_that_breaks_the_names_in_redis_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="JOBPUSH_PREFIX"):
        Config.load({"prefix": prefix}, {})


@pytest.mark.parametrize("key", ["a/b", "a:b", "a b", "key\n", "a?b", "50%"])
def test_key_with_characters_reserved_in_urls_or_signatures_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError, match="JOBPUSH_KEY"):
        Config(key=key, secret="s" * 32).require_credentials()


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"secret": "x"}, "JOBPUSH_SECRET"),
        ({"secret": " " * 20}, "JOBPUSH_SECRET"),
        ({"secret": "s" * 32, "previous_secret": "x"}, "JOBPUSH_PREVIOUS_SECRET"),
    ],
)
def test_guessable_secret_of_the_application_is_refused(settings: dict[str, str], name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} has .* characters and can be guessed"):
        Config(key="k", **settings).require_credentials()


@pytest.mark.parametrize(
    ("name", "value", "placeholder"),
    [
        ("JOBPUSH_SECRET", "${APP_SECRET}", "${APP_SECRET}"),
        ("JOBPUSH_SECRET", "$APP_SECRET", "$APP_SECRET"),
        ("JOBPUSH_REDIS_URL", "redis://${REDIS_HOST:-redis}:6379/0", "${REDIS_HOST:-redis}"),
        ("JOBPUSH_KEY", "$(KEY)", "$(KEY)"),
        ("JOBPUSH_ALLOWED_ORIGINS", "https://{{ .Values.host }}", "{{ .Values.host }}"),
        ("JOBPUSH_GRACE", "${GRACE}", "${GRACE}"),
    ],
)
def test_variable_that_nothing_replaced_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, placeholder: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError, match=re.escape(f"{name} contains {placeholder!r}, a variable without")):
        Config.load({}, {})


def test_text_with_signs_of_variables_is_no_variable() -> None:
    config = Config.load({"secret": "a$b{c}d$(e", "redis_url": "redis://:p$w@h/0"}, {})

    assert (config.secret, config.redis_url) == ("a$b{c}d$(e", "redis://:p$w@h/0")


def test_no_secret_has_a_default() -> None:
    with pytest.raises(MissingSetting, match="JOBPUSH_KEY is not set; make one"):
        Config().require_credentials()
    with pytest.raises(MissingSetting, match="JOBPUSH_SECRET is not set; make one"):
        Config(key="k").require_credentials()


def test_app_id_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="digits only"):
        Config(key="k", secret="s" * 32, app_id="main").require_credentials()


def test_secrets_stay_out_of_the_repr() -> None:
    shown = repr(Config(redis_url="redis://:hunter2@host/0", secret="s3cret"))

    assert "hunter2" not in shown
    assert "s3cret" not in shown


def test_unknown_variables_are_reported_with_the_nearest_setting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("REDISURL", "ALLOWED_ORIGIN", "XYZZY", "REDIS_URL", "LOG_FORMAT", "METRICS_DIR", "DEMO_DIR"):
        monkeypatch.setenv(f"JOBPUSH_{name}", "1")

    warn_about_unknown_variables()

    assert unknown_variables() == {
        "JOBPUSH_ALLOWED_ORIGIN": "did you mean JOBPUSH_ALLOWED_ORIGINS?",
        "JOBPUSH_REDISURL": "did you mean JOBPUSH_REDIS_URL?",
        "JOBPUSH_XYZZY": "'jobpush config --all' lists the settings",
    }
    assert "JOBPUSH_REDISURL is ignored: there is no such setting; did you mean JOBPUSH_REDIS_URL?" in caplog.text
    assert "JOBPUSH_XYZZY is ignored: there is no such setting; 'jobpush config --all' lists" in caplog.text


@pytest.mark.parametrize("secret", ["s", "secret", "1234567"])
def test_guessable_secret_is_refused(secret: str) -> None:
    with pytest.raises(ConfigurationError, match="JOBPUSH_SECRET has"):
        Config(key="k", secret=secret).require_credentials()


@pytest.mark.parametrize("name", ["lost_after", "lease", "task_ttl", "activity_timeout"])
def test_zero_is_refused_where_nothing_works_with_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"JOBPUSH_{name.upper()}", "0")

    with pytest.raises(ConfigurationError, match=f"JOBPUSH_{name.upper()} must be above 0, not '0'"):
        Config.load({}, {})


def test_zero_is_a_value_where_it_has_a_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBPUSH_GRACE", "0")

    assert Config.load({}, {}).grace == 0
