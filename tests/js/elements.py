"""
The test page for the elements, and helpers for it.

Its Content-Security-Policy is strict. The client is the real one; ``gateway.mjs`` inside the page simulates the
gateway. Playwright's locators look into shadow trees and wait by themselves, so nothing here sleeps.
"""

from __future__ import annotations

import time
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page

HERE = Path(__file__).parent
STATIC = HERE.parents[1] / "jobpush" / "static"
DEMO_STATIC = HERE.parents[1] / "demo_app" / "static"
GATEWAY = (HERE / "gateway.mjs").read_text(encoding="utf-8")
#: Time of pages with a stopped clock, in Unix seconds; noon, UTC.
NOW = 1_767_268_800

#: Marks a test whose page has the fixed time :data:`NOW`.
at_noon = pytest.mark.parametrize("page", ["noon"], indirect=True, ids=[""])
#: Marks a test that advances the time of its page with ``page.clock``; see :func:`stop_the_clock`.
with_clock = pytest.mark.parametrize("page", ["clock"], indirect=True, ids=[""])
#: Marks a test that changes its page or context permanently, and therefore gets its own.
with_own_page = pytest.mark.parametrize("page", ["own"], indirect=True, ids=[""])


class PageHandler(SimpleHTTPRequestHandler):
    """Serves the page, its style, the widget and the files of the demo under a policy that allows nothing inline."""

    folders = {"/jobpush/static/": STATIC, "/static/": DEMO_STATIC, "/": HERE}
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".js": "text/javascript"}

    def translate_path(self, path: str) -> str:
        name = path.split("?")[0].replace("..", "")
        prefix, folder = next((prefix, folder) for prefix, folder in self.folders.items() if name.startswith(prefix))
        return str(folder / (name.removeprefix(prefix) or "page.html"))

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", "default-src 'self'")
        self.send_header("Cache-Control", "max-age=3600")  # a page of a later test loads nothing again
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


def put(page: Page, html: str) -> None:
    """Put elements on the page, and let the gateway accept the connection."""
    page.evaluate("html => { document.querySelector('main').innerHTML = html }", html)
    page.evaluate("gateway.welcome()")


def send(page: Page, *tasks: dict[str, Any]) -> None:
    page.evaluate("tasks => gateway.sendTasks(...tasks)", list(tasks))


def part(scope: Page | Locator, name: str) -> Locator:
    return scope.locator(f"[part~={name}]")


def task(task_id: str = "a", **fields: Any) -> dict[str, Any]:
    return {"task_id": task_id, **fields}


def stop_the_clock(page: Page) -> int:
    """Stop the page's clock, which then only ``run_for`` advances; return its time in Unix seconds."""
    page.clock.install(time=NOW)  # the clock runs from here, and can only be paused at a later time
    page.clock.pause_at(NOW + 3600)
    return NOW + 3600


def until(page: Page, condition: str) -> None:
    """Wait until a condition holds. Playwright's own function evaluates text, which the page's policy may forbid."""
    deadline = time.monotonic() + 30
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, f"timed out waiting for {condition}"
        page.wait_for_timeout(10)


def next_frame(page: Page) -> None:
    page.evaluate("new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(resolve)))")


def titles(page: Page) -> list[str]:
    return part(page, "title").all_text_contents()


def assert_announced(page: Page, expected: list[str]) -> None:
    texts = page.evaluate("gateway.announcements")
    assert [" ".join(text.split()) for text in texts] == expected


def listen_to_announcements(page: Page) -> None:
    page.evaluate(
        """() => {
            const live = document.querySelector("jobpush-tasks").shadowRoot.querySelector("[part=live]");
            const record = () => gateway.announcements.push(live.textContent);
            new MutationObserver(record).observe(live, { childList: true, characterData: true, subtree: true });
        }"""
    )
