"""Fixtures: the demo, started as a user starts it, and browsers that use it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from demo_app.video import find_ffmpeg
from jobpush.processes.child import ChildProcess
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.testing import PATIENCE
from tests.markup import record_scripts

#: Timeout of any step in a page, in milliseconds; a busy machine with two cores can be slow.
PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)


@contextmanager
def running_demo(**settings: str) -> Iterator[str]:
    """Run ``jobpush demo`` on a free port until the end of the block; yield its URL."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBPUSH_")}
    environment["JOBPUSH_PUBLISH_TIMEOUT"] = str(PATIENCE)  # a slow machine must not cause dropped events or refusals
    command = [sys.executable, "-m", "jobpush", "demo", "--port", "0", "--no-open"]
    demo = ChildProcess(command, environment={**environment, **settings}, is_piped=True)  # ends with the test run
    try:
        line = demo.stdout.readline().decode()
        assert "http://" in line, f"the demo did not start, it exited with {demo.wait()}"
        yield next(word for word in line.split() if word.startswith("http://"))
        demo.send_signal(signal.SIGINT)
        assert demo.wait(timeout=60) == 0
    finally:
        demo.stop(signal.SIGINT, grace=60)


@pytest.fixture(scope="session")
def demo_url() -> Iterator[str]:
    """One demo, shared by all tests that do not break it."""
    with running_demo() as url:
        yield url


@dataclass
class FragileDemo:
    """A demo whose Redis the test may kill and inspect; its keys are below ``prefix``."""

    url: str
    redis: EmbeddedRedis
    prefix: str = "fragile"


@pytest.fixture
def fragile_demo(redis_server: EmbeddedRedis) -> Iterator[FragileDemo]:
    with running_demo(JOBPUSH_REDIS_URL=redis_server.url, JOBPUSH_PREFIX=FragileDemo.prefix) as url:
        yield FragileDemo(url, redis_server)


class Visitor:
    """A user with a separate browser context, signed in to the demo."""

    def __init__(self, browser: Browser, url: str, name: str, **options: Any) -> None:
        self.url, self.name = url, name
        self.context: BrowserContext = browser.new_context(**options)
        self.context.set_default_timeout(PATIENCE_MS)
        #: Errors in the browser: console errors, and texts that were executed as scripts.
        self.errors: list[str] = []
        record_scripts(self.context, self.errors)
        self.page = self.open()
        self.page.get_by_label("Your name").fill(name)
        self.page.get_by_role("button", name="Start").click()
        expect(self.page.get_by_role("heading", name="Uploads")).to_be_visible()
        self.page.wait_for_load_state()  # the script that handles the file input has run

    def open(self, path: str = "") -> Page:
        """Return another tab of the same browser."""
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.goto(f"{self.url}{path}")
        return page

    def upload(self, *files: Path) -> None:
        self.page.locator("#files").set_input_files(files)


@pytest.fixture
def visit(browser: Browser) -> Iterator[type[Visitor]]:
    """Return a function that creates visitors. Their contexts are closed after the test."""
    visitors: list[Visitor] = []

    def visit(url: str, name: str, **options: Any) -> Visitor:
        visitors.append(Visitor(browser, url, name, **options))
        return visitors[-1]

    yield visit  # type: ignore[misc]
    for visitor in visitors:
        visitor.context.close()


@pytest.fixture(scope="session")
def make_clip(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """Return a function that creates clips with ffmpeg, and caches them: ``make_clip("cat.mov", seconds=3)``."""
    folder = tmp_path_factory.mktemp("clips")

    def make(name: str, *, seconds: int, size: str = "320x180") -> Path:
        path = folder / f"{seconds} s of {size}" / name
        if path.exists():
            return path
        path.parent.mkdir(exist_ok=True)
        if seconds > 1:  # repeat a clip of one second: copying the stream is cheap
            source = ["-stream_loop", str(seconds - 1), "-i", str(make(name, seconds=1, size=size))]
            codec = ["-c", "copy"]
        else:
            source = ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate=25:duration={seconds}"]
            codec = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]
        command = [find_ffmpeg(), "-nostdin", "-loglevel", "error", "-y", *source, *codec, "-f", "mov", str(path)]
        subprocess.run(command, check=True)
        return path

    return make
