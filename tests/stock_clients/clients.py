"""The programs in which JavaScript clients run; each requests scenarios from the application until it is stopped."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from jobpush.processes.child import ChildProcess

HERE = Path(__file__).parent
#: A profile without start pages, updates and requests to other servers.
FIREFOX_PREFERENCES = {
    "app.normandy.enabled": "false",
    "app.update.enabled": "false",
    "browser.safebrowsing.downloads.remote.enabled": "false",
    "browser.shell.checkDefaultBrowser": "false",
    "datareporting.policy.dataSubmissionEnabled": "false",
    "extensions.update.enabled": "false",
    "network.captive-portal-service.enabled": "false",
    "network.connectivity-service.enabled": "false",
    "services.settings.server": '"http://127.0.0.1:9/"',
    "toolkit.telemetry.enabled": "false",
}


def scenarios_of(module: str) -> list[str]:
    """Return the names of a module's scenarios: its exported functions."""
    return re.findall(r"^export async function (\w+)", (HERE / f"{module}.mjs").read_text(), re.MULTILINE)


@contextmanager
def node(module: str, origin: str, folder: Path, environment: Mapping[str, str] = os.environ) -> Iterator[str]:
    """
    Run Node until the end of the block; it plays the scenarios of a module.

    Args:
        module: Name of the module.
        origin: Origin of the application.
        folder: Folder for the log.
        environment: The complete environment.

    Yields:
        The unique name under which it requests scenarios.
    """
    name = new_name("node")
    command = [find("node", package="nodejs"), str(HERE / "client.mjs"), name, module, origin]
    process = ChildProcess(command, log=folder / "node.log", environment=environment)
    yield name
    process.kill()


@contextmanager
def chromium(module: str, origin: str, browser: Browser) -> Iterator[str]:
    """Like :func:`node`, in a page of Chromium."""
    name = new_name("chromium")
    page = browser.new_page()
    page.goto(page_url(name, module, origin))
    yield name
    page.close()


@contextmanager
def firefox(module: str, origin: str, folder: Path) -> Iterator[str]:
    """Like :func:`node`, in a page of Firefox without a driver, with a profile in ``folder``."""
    name = new_name("firefox")
    preferences = [f'user_pref("{key}", {value});\n' for key, value in FIREFOX_PREFERENCES.items()]
    (folder / "user.js").write_text("".join(preferences))
    command = [
        find("firefox-esr", "firefox", package="firefox-esr"),
        "--headless",
        "--no-remote",
        "--profile",
        str(folder),
    ]
    environment = {**os.environ, "HOME": str(folder), "MOZ_CRASHREPORTER_DISABLE": "1"}
    log = folder / "firefox.log"
    process = ChildProcess([*command, page_url(name, module, origin)], log=log, environment=environment)
    yield name
    process.kill()


def new_name(program: str) -> str:
    return f"{program}-{uuid.uuid4()}"


def page_url(name: str, module: str, origin: str) -> str:
    return f"{origin}/files/page.html?name={name}&module={module}"


def find(*programs: str, package: str) -> str:
    """Return the path of the first of these programs that is installed; fail with an instruction if none is."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin"  # for nginx; not on the PATH of users
    for program in programs:
        if found := shutil.which(program, path=path):
            return found
    pytest.fail(f"these tests need {programs[0]}; install it with: apt-get install {package} (make test does)")
