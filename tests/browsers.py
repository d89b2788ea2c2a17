"""A headless Chromium for the tests that look at pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

#: The first one, without a user interface, opens a page with a sixth of the CPU time.
PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
#: No sandbox, for the tests may run as root in a container; no traffic of the browser's own; the same text everywhere.
ARGUMENTS = [
    "--font-render-hinting=slight",
    "--disable-lcd-text",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]


def find_chromium() -> str:
    """The system's Chromium; a test run without it fails with the remedy."""
    for program in PROGRAMS:
        if path := shutil.which(program):
            return path
    pytest.fail("these tests need Chromium; install it with: apt-get install chromium-headless-shell (make test does)")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Chromium until the end of the block."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        yield browser
        browser.close()
