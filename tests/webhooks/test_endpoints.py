"""How webhook URLs are read, what they let through, and what of them may be seen."""

from __future__ import annotations

import pytest

from jobpush.config import Config
from jobpush.errors import ConfigurationError, MissingSetting
from jobpush.webhooks.endpoints import Endpoint, configured_endpoints

OCCUPIED = {"name": "channel_occupied", "channel": "presence-room"}
MEMBER = {"name": "member_added", "channel": "presence-room", "user_id": "42"}
PUBLIC = {"name": "channel_occupied", "channel": "news"}
ONLINE = {"name": "user_online", "user_id": "42"}


def endpoint(url: str) -> Endpoint:
    (only,) = configured_endpoints(Config(key="k", secret="s3cret-of-the-tests", webhook_urls=(url,)))
    return only


@pytest.mark.parametrize(
    ("fragment", "wanted"),
    [
        ("", [OCCUPIED, MEMBER, PUBLIC, ONLINE]),
        ("#kinds=channel_occupied", [OCCUPIED, PUBLIC]),
        ("#kinds=member_added+user_online", [MEMBER, ONLINE]),
        ("#prefix=presence-", [OCCUPIED, MEMBER]),
        ("#prefix=presence-+news", [OCCUPIED, MEMBER, PUBLIC]),
        ("#kinds=channel_occupied+member_added&prefix=presence-", [OCCUPIED, MEMBER]),
        ("#kinds=user_online&prefix=presence-", []),
    ],
)
def test_url_gets_the_events_accepted_by_its_filters(fragment: str, wanted: list[dict[str, str]]) -> None:
    hook = endpoint(f"https://hook.example/in{fragment}")

    assert [event for event in (OCCUPIED, MEMBER, PUBLIC, ONLINE) if hook.wants(event)] == wanted


def test_urls_with_filters_come_from_one_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBPUSH_WEBHOOK_URLS", "https://a.example/#kinds=member_added+member_removed, http://b.example")

    first, second = configured_endpoints(Config.load({"key": "k", "secret": "s3cret-of-the-tests"}, {}))

    assert (first.name, first.kinds) == ("https://a.example/", {"member_added", "member_removed"})
    assert (second.name, second.kinds) == ("http://b.example", frozenset())


def test_url_is_split_for_the_request() -> None:
    hook = endpoint("https://bob:p%40ss@Hook.Example:8443/in/a?token=t0k&x=1#prefix=a-")

    assert (hook.is_secure, hook.host, hook.port) == (True, "hook.example", 8443)
    assert (hook.authority, hook.target) == ("Hook.Example:8443", "/in/a?token=t0k&x=1")
    assert hook.authorization == "Basic Ym9iOnBAc3M="  # bob:p@ss


def test_secrets_of_a_url_are_hidden() -> None:
    hook = endpoint("https://bob:passw0rd@hook.example/in?token=t0ken")

    assert hook.name.startswith("https://hook.example/in?")
    for shown in (hook.name, repr(hook), repr(Config(webhook_urls=(hook.setting,)))):
        assert "passw0rd" not in shown
        assert "t0ken" not in shown


@pytest.mark.parametrize(
    "other", ["https://a:1@a.example/?t=2", "https://a:2@a.example/?t=1", "https://a.example/?t=1"]
)
def test_urls_that_differ_in_their_query_or_credentials_have_different_names(other: str) -> None:
    assert endpoint("https://a:1@a.example/?t=1").name != endpoint(other).name


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("hook.example/in", "must begin with http:// or https://"),
        ("ftp://hook.example/in", "must begin with http:// or https://"),
        ("file:///etc/passwd", "must begin with http:// or https://"),
        ("https:///in", "name a host"),
        ("https://hook.example/a b", "must be ASCII without spaces"),
        ("https://hook.example/ä", "must be ASCII without spaces"),
        ("https://hook.example/\r\nX-Evil: 1", "must be ASCII without spaces"),
        ("https://hook.example:99999/", "port must be a number"),
        ("https://hook.example/#kind=member_added", "filter 'kind' is unknown; known are: kinds, prefix"),
        ("https://hook.example/#kinds=member_add", "kind 'member_add' is unknown; known are: cache_miss, "),
        ("https://hook.example/#member_added", "bad query field"),
    ],
)
def test_error_of_an_invalid_url_has_its_position(url: str, reason: str) -> None:
    config = Config(key="k", secret="s3cret-of-the-tests", webhook_urls=("https://right.example/", url))

    with pytest.raises(ConfigurationError, match=f"URL 2 of JOBPUSH_WEBHOOK_URLS is wrong: .*{reason}"):
        configured_endpoints(config)


@pytest.mark.parametrize("url", ["http://bob:passw0rd/2@host/", "htp://bob:passw0rd@host/", "http://bob:passw0rd@/"])
def test_error_of_an_invalid_url_hides_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        endpoint(url)

    assert "passw0rd" not in str(caught.value)


def test_webhooks_need_the_credentials_that_sign_them() -> None:
    with pytest.raises(MissingSetting, match="JOBPUSH_KEY"):
        configured_endpoints(Config(webhook_urls=("https://a.example/",)))
    assert configured_endpoints(Config()) == ()
