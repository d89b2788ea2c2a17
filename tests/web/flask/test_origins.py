"""Allowed origins: validated at start, compared with what browsers send."""

from __future__ import annotations

import pytest
from flask import Flask

from jobpush.errors import ConfigurationError
from jobpush.web.flask.limits import TrustedProxies
from jobpush.web.flask.origins import ForbiddenOrigin, Origins

PROXIES = TrustedProxies(["127.0.0.1"])


def is_allowed(
    origin: str | None, *allowed: str, host: str = "app.example", peer: str = "192.0.2.1", **headers: str
) -> bool:
    """Return whether a request with these headers is accepted."""
    environ = {"REMOTE_ADDR": peer}
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if origin is not None:
        sent["Origin"] = origin
    with Flask(__name__).test_request_context(base_url=f"http://{host}", headers=sent, environ_base=environ):
        try:
            Origins(allowed, PROXIES).ensure_allowed()
        except ForbiddenOrigin:
            return False
    return True


@pytest.mark.parametrize(
    "entry",
    ["app.example.com", "//app.example.com", "https://app.example.com/path", "https://", "https://*", "https://a.*.b",
     "https://app.*", "https://**.example.com", "https://app.example.com:", "https://app.example.com:0",
     "https://app.example.com:99999", "https://üml.example", "https://user@app.example.com", "null", "https://a b",
     "https://app.example.com?x", "*.example.com", "ws://app.example.com", "WSS://app.example.com", "file://x"],
)  # fmt: skip
def test_entry_that_can_never_match_is_an_error(entry: str) -> None:
    with pytest.raises(ConfigurationError, match="JOBPUSH_ALLOWED_ORIGINS"):
        Origins([entry], PROXIES)


@pytest.mark.parametrize(
    ("entry", "origin"),
    [
        ("https://app.example.com", "https://app.example.com"),
        ("https://APP.example.com/", "https://app.example.com"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("http://localhost:5173", "http://localhost:5173"),
        ("http://[::1]:5173", "http://[::1]:5173"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("https://*.example.com", "https://a.example.com"),
        ("https://*.example.com:8443", "https://a.example.com:8443"),
        ("*", "https://anything.example"),
        ("*", "null"),
    ],
)
def test_listed_origin_is_allowed(entry: str, origin: str) -> None:
    assert is_allowed(origin, entry)


@pytest.mark.parametrize(
    "origin",
    ["https://example.com", "https://a.b.example.com", "http://a.example.com", "https://a.example.com:444",
     "https://a.example.com.evil.example", "https://aexample.com", "https://.example.com", "null", ""],
)  # fmt: skip
def test_wildcard_stands_for_one_label(origin: str) -> None:
    assert not is_allowed(origin, "https://*.example.com")


@pytest.mark.parametrize("schemes", ["https", "https, http", "http,HTTPS", "wss"])
def test_origin_with_another_scheme_is_foreign_behind_a_tls_proxy(schemes: str) -> None:
    secure = {"peer": "127.0.0.1", "X_Forwarded_Proto": schemes}

    assert is_allowed("https://app.example", **secure)
    assert not is_allowed("http://app.example", **secure)
    assert not is_allowed("http://app.example:80", **secure)
    assert is_allowed("http://app.example", X_Forwarded_Proto="https")  # of nobody's proxy
    assert is_allowed("https://app.example", peer="127.0.0.1", X_Forwarded_Proto="http")  # an inner proxy


def test_forwarded_host_of_a_trusted_proxy_is_the_own_origin() -> None:
    forwarded = {"host": "backend:8000", "X_Forwarded_Host": "app.example"}

    assert is_allowed("https://app.example", peer="127.0.0.1", **forwarded)
    assert not is_allowed("https://app.example", **forwarded)


@pytest.mark.parametrize(("site", "expected"), [("cross-site", False), ("same-site", False), ("none", True)])
def test_request_without_an_origin_is_judged_by_sec_fetch_site(site: str, expected: bool) -> None:
    assert is_allowed(None, Sec_Fetch_Site=site) is expected
