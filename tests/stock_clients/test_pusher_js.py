"""pusher-js, unmodified, in Node, Chromium and Firefox; the scenarios are in pusher_js.mjs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.effort import thorough

from .application import Application
from .clients import chromium, firefox, node, scenarios_of
from .conftest import Play

MODULE = "pusher_js"


@pytest.fixture(scope="module", params=["node", "chromium", pytest.param("firefox", marks=thorough)])
def client(
    request: pytest.FixtureRequest, application: Application, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A program that runs pusher-js."""
    folder = tmp_path_factory.mktemp(request.param)
    programs = {
        "node": lambda: node(MODULE, application.url, folder),
        "chromium": lambda: chromium(MODULE, application.url, browser),
        "firefox": lambda: firefox(MODULE, application.url, folder),
    }
    with programs[request.param]() as name:
        yield name


@pytest.mark.parametrize("scenario", scenarios_of(MODULE))
def test_pusher_js(play: Play, client: str, scenario: str) -> None:
    play(client, scenario)
