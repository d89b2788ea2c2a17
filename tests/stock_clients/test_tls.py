"""TLS through nginx: stock clients, and a page with jobpush's client that needs no extra round trip."""

from __future__ import annotations

import json
import os
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, Page, WebSocket, expect

from jobpush.config import Config
from jobpush.events import TaskEvent, TaskState
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.signing import http_text, sign
from jobpush.store import Store
from jobpush.store.records import TaskWrite
from tests.waiting import PATIENCE

from .application import Application
from .clients import node
from .conftest import player
from .deployment import KEY, SECRET, Deployment, Server, environment_of
from .nginx import PREFIX, Nginx, nginx

ROOT = Path(__file__).parents[2]
#: The first messages between browser and gateway when a page is opened; the client sends none.
OPENING = [
    ("received", "pusher:connection_established"),
    ("received", "pusher:signin_success"),
    ("received", "pusher_internal:subscription_succeeded"),
    ("received", "jobpush:task"),
]


@pytest.fixture(scope="module")
def proxy(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """nginx in front of the deployment's gateways."""
    ports = [gateway.port for gateway in deployment.gateways]
    with nginx(tmp_path_factory.mktemp("nginx"), ports) as proxy:
        yield proxy


@pytest.mark.parametrize(
    ("module", "scenario"),
    [
        ("pusher_js", "aPublicChannelReceivesServerEvents"),
        ("pusher_js", "aPrivateChannelAsksTheAuthEndpoint"),
        ("pusher_js", "presenceMembersAreListedAddedAndRemoved"),
        ("pusher_js", "aUserReceivesTheirEvents"),
        ("pusher_js", "aTasksChannelBeginsWithItsSnapshot"),
        ("node_sdk", "triggerReachesSeveralChannels"),
        ("node_sdk", "terminateUserConnectionsEndsThem"),
    ],
)
def test_stock_clients_with_force_tls(
    application: Application, deployment: Deployment, proxy: Nginx, module: str, scenario: str, tmp_path: Path
) -> None:
    environment = {**os.environ, "NODE_EXTRA_CA_CERTS": str(proxy.authority)}
    play = player(application, [proxy.port, proxy.port], tls=True)

    with application.backed_by(deployment), node(module, application.url, tmp_path, environment) as client:
        play(client, scenario)


def test_clients_behind_a_proxy_that_strips_a_prefix(
    application: Application, deployment: Deployment, proxy: Nginx, tmp_path: Path
) -> None:
    environment = {**os.environ, "NODE_EXTRA_CA_CERTS": str(proxy.authority)}
    play = player(application, [proxy.port, proxy.port], tls=True, path=PREFIX)

    with application.backed_by(deployment), node("pusher_js", application.url, tmp_path, environment) as client:
        play(client, "presenceMembersAreListedAddedAndRemoved")


@pytest.mark.parametrize("signed", ["/apps/1/channels", f"{PREFIX}/apps/1/channels"])
def test_server_sdk_may_sign_the_prefix_or_not(proxy: Nginx, signed: str) -> None:
    query = {"auth_key": KEY, "auth_timestamp": str(int(time.time())), "auth_version": "1.0"}
    query["auth_signature"] = sign(SECRET, http_text("GET", signed, query))
    url = f"https://127.0.0.1:{proxy.port}{PREFIX}/apps/1/channels?{urlencode(query)}"

    with urlopen(url, context=ssl.create_default_context(cafile=str(proxy.authority))) as response:
        assert list(json.load(response)) == ["channels"]


@pytest.fixture
def site_config() -> Iterator[Config]:
    """The settings of a site with its own Redis."""
    with EmbeddedRedis() as redis:
        yield Config(redis_url=redis.url, key=KEY, secret=SECRET, publish_timeout=PATIENCE)


@pytest.fixture
def site(site_config: Config, tmp_path: Path) -> Iterator[str]:
    """The URL of a site under gunicorn, behind nginx."""
    command = [sys.executable, "-m", "gunicorn", "--config", "python:jobpush.gunicorn_conf", "--chdir", str(ROOT)]
    application = f"{__package__}.site:create_app()"
    server = Server([*command, application], tmp_path / "site.log", environment_of(site_config))
    with nginx(tmp_path, [server.port]) as proxy:
        yield f"https://127.0.0.1:{proxy.port}"
    server.stop()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of Chromium that accepts any certificate."""
    page = browser.new_page(ignore_https_errors=True)
    yield page
    page.close()


def test_page_gets_its_tasks_without_an_extra_request(site: str, site_config: Config, page: Page) -> None:
    store = Store(site_config)
    store.publish([TaskWrite("42", TaskEvent("t-1", TaskState.PROGRESS, title="Encode cat.mov", current=1, total=4))])
    store.close()
    frames = recorded_frames(page)
    page.goto(f"{site}/login/42")

    page.goto(site)
    expect(page.get_by_text("Encode cat.mov")).to_be_visible()

    assert frames[: len(OPENING)] == OPENING


def recorded_frames(page: Page) -> list[tuple[str, str]]:
    """Record the frames of the page's WebSockets; return the growing list of their directions and events."""
    frames: list[tuple[str, str]] = []

    def record(socket: WebSocket) -> None:
        socket.on("framesent", lambda text: frames.append(("sent", json.loads(text)["event"])))
        socket.on("framereceived", lambda text: frames.append(("received", json.loads(text)["event"])))

    page.on("websocket", record)
    return frames
