"""The version before the last change of a format beside this one: workers, gateways and pages, both ways."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from jobpush.processes.child import ChildProcess
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.processes.ports import free_port
from jobpush.signing import channel_auth
from jobpush.store.keys import LAYOUT
from jobpush.testing import PATIENCE
from tests.faults.proxy import Proxy
from tests.gateway.client import Client, data_of
from tests.gateway.site import KEY, SECRET
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
FOLDER = str(Path(__file__).parent)
VERSIONS = ("old", "new")
ROOM = "presence-room"


def last_format() -> str:
    """Return the commit before the last change of a format."""
    lines = Path(__file__).with_name("last_format.txt").read_text().splitlines()
    return next(line for line in lines if not line.startswith("#"))


@pytest.fixture(scope="module")
def old_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of that commit, from git."""
    folder = tmp_path_factory.mktemp("old")
    archive = subprocess.run(["git", "archive", last_format()], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    with tarfile.open(fileobj=BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def pythons(old_source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The Python of each version, by version."""
    venv = tmp_path_factory.mktemp("venv")
    uv = str(Path(sys.executable).with_name("uv"))
    for command in (
        ["venv", "--quiet", "--clear", "--python", sys.executable, str(venv)],
        ["pip", "install", "--quiet", "--python", str(venv / "bin" / "python"), f"{old_source}[gateway]"],
    ):
        subprocess.run([uv, *command], check=True, timeout=PATIENCE * 4)
    return {"old": str(venv / "bin" / "python"), "new": sys.executable}


class Site:
    """Processes of both versions over one Redis, and one address in front of the gateways."""

    def __init__(self, pythons: dict[str, str], server: EmbeddedRedis, folder: Path, stack: ExitStack) -> None:
        self._pythons = pythons
        self._folder = folder
        self._stack = stack
        self._environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            "BROKER_URL": server.url,
            "JOBPUSH_REDIS_URL": server.url,
            "JOBPUSH_KEY": KEY,
            "JOBPUSH_SECRET": SECRET,
            "JOBPUSH_LEASE": "6",
            "JOBPUSH_GRACE": "2",
        }
        self.ports = {version: free_port() for version in VERSIONS}
        self.proxy = Proxy(self.ports["old"])
        stack.callback(self.proxy.close)
        self.stop = folder / "stop"

    def start_worker(self, version: str) -> None:
        """Start a worker for the tasks in the queue of its version's name."""
        options = ["-A", "application", "worker", "--concurrency", "2", "-Q", version, "-n", version]
        self._start(version, "celery", *options)

    def start_gateway(self, version: str) -> ChildProcess:
        bind = f"127.0.0.1:{self.ports[version]}"
        options = ["--config", "python:jobpush.gunicorn_conf", "--bind", bind, "application:create_app()"]
        gateway = self._start(version, "gunicorn", *options)
        wait_until(lambda: self._answer(version, "/jobpush/health/ready"), f"the {version} gateway")
        return gateway

    def delay(self, gateway: str, worker: str) -> str:
        """Publish a task by the application of one version, for the worker of the other; return its title."""
        title = f"sent by {gateway}, run by {worker}"
        query = urllib.parse.urlencode({"title": title, "queue": worker, "stop": self.stop})
        assert self._answer(gateway, f"/work?{query}", method="POST")
        return title

    def check_logs(self) -> None:
        """Check that each process has run its own version, without an internal error."""
        for path in self._folder.glob("*.log"):
            text = path.read_text()
            is_old = str(Path(self._pythons["old"]).parents[1]) in text
            assert is_old is path.stem.endswith("-old"), text
            assert "Traceback" not in text, text

    def _start(self, version: str, program: str, *options: str) -> ChildProcess:
        path = Path(self._pythons[version]).with_name(program)
        log = self._folder / f"{program}-{version}.log"
        command = ["env", "--chdir", FOLDER, str(path), *options]  # elsewhere both would find the new version first
        process = ChildProcess(command, log=log, environment=self._environment)
        self._stack.callback(process.kill)
        return process

    def _answer(self, version: str, path: str, method: str = "GET") -> bool:
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports[version]}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@pytest.fixture
def site(pythons: dict[str, str], tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedRedis(port=0))
        yield Site(pythons, server, tmp_path, stack)


def test_both_versions_have_one_layout(old_source: Path) -> None:
    """Else they refuse each other's data, which tests/store/test_faults.py checks, and cannot run side by side."""
    found = re.search(r"^LAYOUT = (\d+)$", (old_source / "jobpush" / "store" / "keys.py").read_text(), re.MULTILINE)

    assert found and int(found[1]) == LAYOUT


def open_page(browser: Browser, site: Site) -> Page:
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{site.proxy.port}/")
    return page


def expect_states(page: Page, titles: list[str], state: str) -> None:
    for title in titles:
        card = page.get_by_role("group", name=title)
        expect(card).to_have_attribute("data-state", state, timeout=PATIENCE * 1_000)


@pytest.mark.parametrize(("first", "second"), [VERSIONS, VERSIONS[::-1]], ids=["upgrade", "downgrade"])
def test_pages_show_all_tasks_across_versions(site: Site, browser: Browser, first: str, second: str) -> None:
    for version in VERSIONS:
        site.start_worker(version)
    former = site.start_gateway(first)
    site.proxy.point_to(site.ports[first])
    titles = [site.delay(first, worker) for worker in VERSIONS]
    page = open_page(browser, site)
    expect_states(page, titles, "PROGRESS")

    site.start_gateway(second)
    titles += [site.delay(second, worker) for worker in VERSIONS]
    expect_states(page, titles, "PROGRESS")

    site.proxy.point_to(site.ports[second])
    former.stop(signal.SIGTERM, grace=PATIENCE)  # the page of the first version reconnects to the second
    site.stop.touch()
    expect_states(page, titles, "SUCCESS")
    fresh = open_page(browser, site)
    expect_states(fresh, titles, "SUCCESS")
    for one in (page, fresh):
        one.close()
    site.check_logs()


def enter(client: Client, user_id: str) -> set[str]:
    """Become a member of the room; return the members."""
    member = json.dumps({"user_id": user_id, "user_info": {}})
    answer = client.subscribe(ROOM, auth=channel_auth(KEY, SECRET, client.socket_id, ROOM, member), channel_data=member)
    return set(data_of(answer[-1])["presence"]["ids"])


def test_gateways_of_both_versions_share_members_and_leases(site: Site, pythons: dict[str, str]) -> None:
    gateways = {version: site.start_gateway(version) for version in VERSIONS}
    clients: dict[str, Any] = {version: Client(site.ports[version]) for version in VERSIONS}

    assert enter(clients["old"], "old") == {"old"}
    assert enter(clients["new"], "new") == {"old", "new"}
    added = clients["old"].receive_until(lambda one: one["event"] == "pusher_internal:member_added")
    assert data_of(added[-1])["user_id"] == "new"

    gateways["old"].kill()  # the new one retracts what the old one has stated
    removed = clients["new"].receive_until(lambda one: one["event"] == "pusher_internal:member_removed")
    assert data_of(removed[-1])["user_id"] == "old"

    site.start_gateway("old")
    again = Client(site.ports["old"])
    assert enter(again, "old") == {"old", "new"}
    gateways["new"].stop(signal.SIGTERM, grace=PATIENCE)
    removed = again.receive_until(lambda one: one["event"] == "pusher_internal:member_removed")
    assert data_of(removed[-1])["user_id"] == "new"
    for client in (*clients.values(), again):
        client.hang_up()
    site.check_logs()
