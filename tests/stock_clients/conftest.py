"""Fixtures: gateways in two deployments, an application, and clients of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.effort import members

from .application import Application
from .backend import MASTER_KEY
from .clients import node
from .deployment import APP_ID, KEY, SECRET, Deployment, deploy

HERE = Path(__file__).parent
#: The two ways to run more than one process: workers of one gateway, and several gateways with one Redis.
SHAPES: dict[str, dict[str, int]] = {
    "two workers": {"gateways": 1, "workers": 2},
    "two gateways": {"gateways": 2, "workers": 1},
}

#: Lets a client play a scenario, and fails with the client's report: ``play(client, scenario)``.
Play = Callable[[str, str], None]


@pytest.fixture(scope="module")
def application() -> Iterator[Application]:
    """The application's HTTP server."""
    if not (HERE / "node_modules").is_dir():
        pytest.fail(f"these tests need the stock clients; install them with: npm ci --prefix {HERE} (make test does)")
    application = Application()
    yield application
    application.close()


@pytest.fixture(scope="module", params=members(SHAPES))
def deployment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Gateways for all tests of a module."""
    folder = tmp_path_factory.mktemp("gateways")
    with deploy(folder, **SHAPES[request.param]) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def node_client(
    request: pytest.FixtureRequest, application: Application, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A Node client that plays the scenarios of the test file's ``MODULE``."""
    with node(request.module.MODULE, application.url, tmp_path_factory.mktemp("node")) as name:
        yield name


@pytest.fixture
def play(application: Application, deployment: Deployment) -> Iterator[Play]:
    """A function that plays scenarios on the deployment, which is repaired after the test."""
    with application.backed_by(deployment):
        yield player(application, deployment.ports)
    deployment.repair()


def player(application: Application, ports: list[int], *, tls: bool = False, path: str = "") -> Play:
    """Return a function that plays scenarios whose clients connect to these ports."""
    stage: dict[str, Any] = {"appId": APP_ID, "key": KEY, "secret": SECRET, "masterKey": MASTER_KEY}

    def play(client: str, scenario: str) -> None:
        failure = application.play(client, scenario, {**stage, "ports": ports, "tls": tls, "path": path})
        assert failure is None, failure

    return play
