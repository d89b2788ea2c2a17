"""Where settings come from, and how wrong ones are reported."""

from __future__ import annotations

import pytest

from jobpush.config import Config, unknown_variables, warn_about_unknown_variables
from jobpush.errors import ConfigurationError, MissingSetting


def test_a_keyword_overrides_the_application_and_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_the_error_of_an_unknown_keyword_lists_the_settings() -> None:
    with pytest.raises(ConfigurationError, match="unknown setting 'redis'.*redis_url"):
        Config.load({"redis": "redis://"}, {})


def test_the_error_of_a_wrong_type_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBPUSH_MAX_TASKS", "many")

    with pytest.raises(ConfigurationError, match="JOBPUSH_MAX_TASKS must be of type int, not 'many'"):
        Config.load({}, {})


def test_no_secret_has_a_default() -> None:
    with pytest.raises(MissingSetting, match="JOBPUSH_KEY is not set; make one"):
        Config().require_credentials()
    with pytest.raises(MissingSetting, match="JOBPUSH_SECRET is not set; make one"):
        Config(key="k").require_credentials()


def test_an_app_id_that_is_not_a_number_is_refused() -> None:
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
        "JOBPUSH_ALLOWED_ORIGIN": "JOBPUSH_ALLOWED_ORIGINS",
        "JOBPUSH_REDISURL": "JOBPUSH_REDIS_URL",
        "JOBPUSH_XYZZY": None,
    }
    assert "JOBPUSH_REDISURL is ignored: there is no such setting; did you mean JOBPUSH_REDIS_URL?" in caplog.text
    assert "JOBPUSH_XYZZY is ignored: there is no such setting; run 'jobpush config'" in caplog.text


@pytest.mark.parametrize("secret", ["s", "secret", "1234567"])
def test_secret_that_can_be_guessed_is_refused(secret: str) -> None:
    with pytest.raises(ConfigurationError, match="JOBPUSH_SECRET has"):
        Config(key="k", secret=secret).require_credentials()
