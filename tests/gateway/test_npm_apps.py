"""The npm package in the Vite React and Vue apps of the docs on another origin, with a real gateway and browser."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from jobpush.config import Config
from jobpush.store import Store
from jobpush.tokens import make_token

from .conftest import Serve
from .publishing import publish, start
from .site import KEY, SECRET

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "client"
APPS = ROOT / "docs" / "examples" / "spa"
#: Where the apps of the docs expect the gateway.
GATEWAY = "http://127.0.0.1:8001"
#: The apps find Vite and the frameworks in client/node_modules, so they are built below it. Ignored by git.
BUILD = CLIENT / "build"
#: ``make test`` tries one of them, ``make test-all`` both.
FRAMEWORKS = ["react", "vue"] if os.environ.get("TEST_ALL") else ["react"]


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves the built app."""

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the output of the tests clean."""


@contextmanager
def serving_files(folder: Path) -> Iterator[str]:
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def run(*command: str, cwd: Path) -> str:
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_bar_moves_across_origins(framework: str, serve: Serve, store: Store, browser: Browser, tmp_path: Path) -> None:
    app = BUILD / framework
    shutil.rmtree(app, ignore_errors=True)
    shutil.copytree(APPS / framework, app)
    (app / "package.json").write_text(json.dumps({"name": framework, "private": True, "type": "module"}))
    packed = json.loads(run("npm", "pack", "--json", "--pack-destination", str(tmp_path), cwd=CLIENT))[0]["filename"]
    run("npm", "install", "--offline", "--no-save", "--omit=peer", str(tmp_path / packed), cwd=app)
    run("node", str(CLIENT / "node_modules" / "vite" / "bin" / "vite.js"), "build", cwd=app)

    with serving_files(app / "dist") as origin:
        site = serve(allowed_origins=origin)
        (script,) = (app / "dist" / "assets").glob("index-*.js")
        built = script.read_text()
        assert built.count(GATEWAY) == 1
        script.write_text(built.replace(GATEWAY, f"http://127.0.0.1:{site.port}"))
        token = make_token(Config(key=KEY, secret=SECRET), "42")
        context = browser.new_context()
        page = context.new_page()
        page.route("**/api/jobpush-token", lambda route: route.fulfill(json={"token": token}))
        start(store, "42", "a")
        page.goto(origin)
        bar = page.locator("main > progress")
        expect(bar).to_have_count(1, timeout=30_000)

        publish(store, "42", "a", 3, message="three")

        expect(page.locator("jobpush-tasks").get_by_text("three")).to_be_visible(timeout=30_000)
        context.close()
    shutil.rmtree(app)
