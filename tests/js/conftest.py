"""Fixtures: a site with one page, and browser pages shared between tests. New documents are cheap, contexts are not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import ThreadingHTTPServer

import pytest
from playwright.sync_api import Browser, Page

from .elements import GATEWAY, NOW, PageHandler

SIZE = {"width": 800, "height": 600}


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """The URL of the site."""
    with ThreadingHTTPServer(("127.0.0.1", 0), PageHandler) as server:
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.05))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class Pages:
    """The shared pages by kind: ``plain``, ``noon`` and ``clock`` (see ``elements.py``)."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._shared: dict[str, Page] = {}

    def new(self) -> Page:
        """Return a page in a new context."""
        context = self._browser.new_context(viewport=SIZE, locale="en-US", timezone_id="UTC")
        page = context.new_page()
        page.add_init_script(GATEWAY)
        return page

    def shared(self, kind: str) -> Page:
        """Return the shared page of a kind, reset to its initial state."""
        page = self._shared.get(kind)
        if page is None:
            page = self._shared[kind] = self.new()
            if kind == "noon":
                page.clock.set_fixed_time(NOW)
            return page
        page.unroute_all()
        page.mouse.move(0, 0)
        page.emulate_media(color_scheme="light", forced_colors="none", reduced_motion="no-preference")
        if page.viewport_size != SIZE:
            page.set_viewport_size(SIZE)
        return page

    def close(self) -> None:
        """Close all shared pages."""
        for page in self._shared.values():
            page.context.close()


@pytest.fixture(scope="session")
def pages(browser: Browser) -> Iterator[Pages]:
    """The shared pages."""
    pages = Pages(browser)
    yield pages
    pages.close()


@pytest.fixture
def page(request: pytest.FixtureRequest, pages: Pages, site: str) -> Iterator[Page]:
    """A page without elements. No test may cause an uncaught error or a policy violation in it."""
    kind = getattr(request, "param", "plain")
    page = pages.new() if kind == "own" else pages.shared(kind)
    errors: list[str] = []
    note = partial(_note, errors)
    page.on("pageerror", note)
    page.goto(site)
    yield page
    violations = page.evaluate("gateway.violations")
    page.remove_listener("pageerror", note)
    if kind == "own":
        page.context.close()
    assert errors == []
    assert violations == []


def _note(errors: list[str], error: object) -> None:
    errors.append(str(error))
