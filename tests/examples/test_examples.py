"""The complete examples of ``docs/examples``: a real worker, a real gateway and a real browser."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from jobpush.processes.child import ChildProcess
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.processes.ports import free_port
from tests.effort import IS_FULL
from tests.stock_clients.clients import find
from tests.waiting import is_listening, wait_until
from tests.web.proxies.test_proxies import MAIN

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
#: Milliseconds that a page may take on a busy machine.
PATIENCE_MS = 120_000
#: Lines that a developer adds to an application of the framework with Celery, imports included.
MOST_LINES = {"django": 12, "fastapi": 14}


class Project:
    """A copy of an example, with its programs."""

    def __init__(self, name: str, folder: Path, redis_url: str, stack: ExitStack, *, has_proxy: bool) -> None:
        shutil.copytree(EXAMPLES / name, folder)
        self.folder = folder
        self.port, self.gateway_port = free_port(), free_port()
        #: Port of the address that the browser opens.
        self.public_port = free_port() if has_proxy else self.port
        gateway = "" if has_proxy else f"http://127.0.0.1:{self.gateway_port}"
        self._stack = stack
        self._environment = {
            **os.environ,
            "REDIS_URL": redis_url,
            "JOBPUSH_REDIS_URL": redis_url,
            "JOBPUSH_KEY": "shop",
            "JOBPUSH_SECRET": "0123456789abcdef0123456789abcdef",
            "JOBPUSH_ALLOWED_ORIGINS": "" if has_proxy else f"http://127.0.0.1:{self.port}",
            "GATEWAY": gateway,
            "PYTHONPATH": f"{folder}:{EXAMPLES.parents[1]}",
        }
        if name == "django":
            with (folder / "shop" / "settings.py").open("a") as settings:
                settings.write(f'\nJOBPUSH["ROOT"] = "{gateway}"\n')
        if has_proxy:
            self._start_nginx()

    def _start_nginx(self) -> None:
        """Start nginx with the configuration of the examples: one origin for application and gateway."""
        text = (EXAMPLES / "nginx.conf").read_text()
        for port, ours in ((8080, self.public_port), (8000, self.port), (8001, self.gateway_port)):
            text = text.replace(f"127.0.0.1:{port};", f"127.0.0.1:{ours};")
        folder = self.folder / "nginx"
        folder.mkdir()
        (folder / "nginx.conf").write_text(MAIN.format(server=text))
        command = [find("nginx", package="nginx"), "-p", str(folder), "-c", "nginx.conf"]
        self._stack.callback(ChildProcess(command, log=folder / "nginx.log").kill)

    def run(self, *command: str, port: int | None = None) -> ChildProcess:
        """Start ``python …`` in the project's folder, and wait until it listens."""
        launcher = "import os, runpy, sys; os.chdir(sys.argv[1]); sys.argv[:] = sys.argv[2:]; sys.path.insert(0, ''); "
        launcher += "m = sys.argv[0]; " + (
            "runpy.run_path(m, run_name='__main__') if m.endswith('.py') else runpy.run_module(m, run_name='__main__')"
        )
        log = self.folder / f"{command[0].replace('/', '-')}-{len(command)}.log"
        process = ChildProcess(
            [sys.executable, "-c", launcher, str(self.folder), *command], log=log, environment=self._environment
        )
        self._stack.callback(process.stop, signal.SIGTERM, grace=10)
        if port is not None:
            wait_until(lambda: is_listening(port), log.read_text, PATIENCE_MS / 1000)
        return process


@contextmanager
def django(folder: Path, redis_url: str, *, has_proxy: bool) -> Iterator[Project]:
    with ExitStack() as stack:
        project = Project("django", folder, redis_url, stack, has_proxy=has_proxy)
        migrate = project.run("manage.py", "migrate", "-v0")
        assert migrate.wait(PATIENCE_MS / 1000) == 0
        project.run("celery", "-A", "shop", "worker", "-c", "1")
        project.run(
            "manage.py", "jobpush_gateway", "--bind", f"127.0.0.1:{project.gateway_port}", port=project.gateway_port
        )
        project.run("manage.py", "runserver", "--noreload", str(project.port), port=project.port)
        yield project


@contextmanager
def fastapi(folder: Path, redis_url: str, *, has_proxy: bool) -> Iterator[Project]:
    with ExitStack() as stack:
        project = Project("fastapi", folder, redis_url, stack, has_proxy=has_proxy)
        project.run("celery", "-A", "tasks", "worker", "-c", "1")
        project.run("jobpush", "gateway", "--bind", f"127.0.0.1:{project.gateway_port}", port=project.gateway_port)
        project.run("uvicorn", "main:app", "--port", str(project.port), port=project.port)
        yield project


def sign_in(page: Page, project: Project, user: str) -> None:
    page.goto(f"http://127.0.0.1:{project.public_port}/", timeout=PATIENCE_MS)
    page.get_by_placeholder("Your name").fill(user)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible(timeout=PATIENCE_MS)


#: The application, and whether nginx serves it and the gateway on one origin; ``make test`` tries each half once.
SITES = [(django, True), (fastapi, False), *([(django, False), (fastapi, True)] if IS_FULL else [])]


@pytest.mark.parametrize(("serving", "has_proxy"), SITES)
def test_example_shows_a_task_to_its_user_only(serving, has_proxy: bool, browser: Browser, tmp_path: Path) -> None:
    with EmbeddedRedis(port=0) as redis, serving(tmp_path / "project", redis.url, has_proxy=has_proxy) as project:
        mine, others = browser.new_context(), browser.new_context()
        page, other = mine.new_page(), others.new_page()
        sign_in(page, project, "ada")
        sign_in(other, project, "bob")

        page.get_by_role("button", name="Export orders.csv").click()
        card = page.get_by_role("group", name="Export orders.csv")
        expect(card).to_have_attribute("data-state", "PROGRESS", timeout=PATIENCE_MS)
        page.reload()
        expect(card).to_have_attribute("data-state", "PROGRESS", timeout=PATIENCE_MS)
        card.get_by_role("button", name=re.compile("Cancel")).click()
        expect(card).to_have_attribute("data-state", "REVOKED", timeout=PATIENCE_MS)
        expect(other.locator("jobpush-tasks")).to_have_attribute("data-connection", "connected", timeout=PATIENCE_MS)
        assert other.get_by_role("group", name="Export orders.csv").count() == 0

        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_placeholder("Your name")).to_be_visible(timeout=PATIENCE_MS)
        assert page.request.get(f"http://127.0.0.1:{project.public_port}/jobpush/token").status == 401
        mine.close()
        others.close()


@pytest.mark.parametrize("name", MOST_LINES)
def test_example_adds_few_lines(name: str) -> None:
    added = [
        line
        for file in sorted((EXAMPLES / name).rglob("*"))
        if file.suffix in (".py", ".html") and file.name != "tests.py"
        for line in file.read_text().splitlines()
        if re.search(r"jobpush|progress|push\.|JOBPUSH|AsyncJobPush", line)
    ]

    assert 0 < len(added) <= MOST_LINES[name], "\n".join(added)
