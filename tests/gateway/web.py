"""Requests to a gateway that is really served."""

from __future__ import annotations

import hashlib
import http.client
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

from prometheus_client.parser import text_string_to_metric_families

from jobpush import signing
from tests.waiting import wait_until

from .client import TIMEOUT
from .conftest import Site
from .site import KEY, METRICS_TOKEN, SECRET

#: The socket id of requests to the auth endpoints.
SOCKET_ID = "123.456"


def request(
    site: Site,
    method: str,
    path: str,
    *,
    user: str | None = None,
    form: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
    is_json: bool = True,
) -> tuple[int, Any]:
    """Status, and the decoded body."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=TIMEOUT)
    sent = {**(headers or {}), **({"Cookie": f"user={quote(user)}"} if user else {})}
    if form is not None:
        sent["Content-Type"] = "application/x-www-form-urlencoded"
    connection.request(method, path, urlencode(form) if form is not None else None, sent)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, json.loads(body) if is_json else body


def authorize(site: Site, channel: str, **options: Any) -> tuple[int, Any]:
    """Ask as pusher-js does."""
    return request(site, "POST", "/jobpush/auth", form={"socket_id": SOCKET_ID, "channel_name": channel}, **options)


def call_api(site: Site, method: str, path: str, **parameters: str) -> tuple[int, Any]:
    """A request of another server to the HTTP API, signed as Pusher's SDKs do."""
    query = {"auth_key": KEY, "auth_timestamp": f"{time.time():.0f}", "auth_version": "1.0", **parameters}
    query["body_md5"] = hashlib.md5(b"", usedforsecurity=False).hexdigest()
    query["auth_signature"] = signing.sign(SECRET, signing.http_text(method, path, query))
    return request(site, method, f"{path}?{urlencode(query)}")


def scrape(site: Site) -> dict[str, float]:
    """The figures of a gateway: ``{"jobpush_connections": 2.0, 'jobpush_refusals_total{reason="origin"}': 0.0}``."""
    headers = {"Authorization": f"Bearer {METRICS_TOKEN}"}
    status, text = request(site, "GET", "/jobpush/metrics", headers=headers, is_json=False)
    assert status == 200, text
    figures = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            figures[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return figures


def scrape_until(site: Site, is_wanted: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    """Scrape until the metrics have the wanted values; processes share theirs eight times a second."""
    figures: dict[str, float] = {}

    def is_reached() -> bool:
        figures.clear()
        figures.update(scrape(site))
        return is_wanted(figures)

    wait_until(is_reached, lambda: figures)
    return figures
