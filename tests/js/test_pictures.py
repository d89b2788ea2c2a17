"""Every state of the card looks as it does in the pictures of the documentation, see ``make docs-pictures``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.effort import thorough

from .pictures import LOOKS, SHARE_TOLERANCE, difference, open_states, take

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"


@pytest.fixture(scope="module")
def blank(browser: Browser) -> Iterator[Page]:
    """A page without a policy, in which pictures are compared."""
    page = browser.new_page()
    yield page
    page.close()


@pytest.mark.parametrize("name", LOOKS)
def test_states_look_as_in_the_documentation(browser: Browser, site: str, blank: Page, name: str) -> None:
    page = open_states(browser, f"{site}/static/states.html", LOOKS[name])
    picture = take(page)
    page.context.close()

    share = difference(blank, picture, (PICTURES / f"{name}.png").read_bytes())

    if share > SHARE_TOLERANCE:
        (taken := Path("build") / f"{name}.png").parent.mkdir(exist_ok=True)
        taken.write_bytes(picture)
    assert share <= SHARE_TOLERANCE, f"see build/{name}.png; if it is right, run: make docs-pictures"


@thorough
@pytest.mark.parametrize(
    "defect",
    [
        "jobpush-tasks { --jobpush-error: #b45309 }",
        "jobpush-tasks::part(title) { translate: 0 3px }",
        "jobpush-tasks::part(icon) { display: none }",
        "jobpush-tasks::part(task) { border-radius: 0; padding-inline: 12px }",
    ],
)
def test_a_defect_is_seen(states: Page, blank: Page, defect: str) -> None:
    states.evaluate("css => document.adoptedStyleSheets[1].replaceSync(css)", defect)

    picture = take(states)

    assert difference(blank, picture, (PICTURES / "states.png").read_bytes()) > 2 * SHARE_TOLERANCE


@pytest.fixture(scope="module")
def states(browser: Browser, site: str) -> Iterator[Page]:
    """The correct page, with an empty style sheet for defects."""
    page = open_states(browser, f"{site}/static/states.html", LOOKS["states"])
    page.evaluate("document.adoptedStyleSheets = [...document.adoptedStyleSheets, new CSSStyleSheet()]")
    yield page
    page.context.close()
