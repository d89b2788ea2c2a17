"""The feed in real browsers, with headlines from every source."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from celery import Celery
from playwright.sync_api import Browser, Page, expect

from jobpush.processes.embedded import EmbeddedRedis
from jobpush.testing import PATIENCE
from tests.effort import members, thorough

from .conftest import PATIENCE_MS, FragileDemo, Visitor

Visit = Callable[[str, str], Visitor]


@pytest.fixture
def stranger(browser: Browser) -> Iterator[Page]:
    """A page of an anonymous visitor."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    yield context.new_page()
    context.close()


def open_feed(visitor: Visitor) -> Page:
    visitor.page.get_by_role("link", name="Feed").click()
    expect_loaded(visitor.page)
    return visitor.page


def expect_loaded(page: Page) -> None:
    """Wait until the page has loaded the published headlines; all later ones arrive live."""
    expect(page.locator("#headlines[data-is-loaded]")).to_be_attached()


def expect_newest(page: Page, text: str, by: str) -> None:
    newest = page.locator("#headlines li").first
    expect(newest.locator("p")).to_have_text(text)
    expect(newest.locator(".note")).to_contain_text(by)


def publish(page: Page, text: str) -> None:
    page.get_by_label("Headline").fill(text)
    page.get_by_role("button", name="Publish").click()


def run_command(redis_url: str, folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "demo_app.feed", text],
        env={
            **os.environ,
            "JOBPUSH_REDIS_URL": redis_url,
            "JOBPUSH_PREFIX": FragileDemo.prefix,
            "JOBPUSH_DEMO_DIR": str(folder),
            "JOBPUSH_PUBLISH_TIMEOUT": str(PATIENCE),
        },
        capture_output=True,
        text=True,
    )


@thorough
def test_headline_of_a_command_is_on_every_page_at_once(
    fragile_demo: FragileDemo, visit: Visit, stranger: Page, tmp_path: Path
) -> None:
    ada = visit(fragile_demo.url, "Ada")
    open_feed(ada)
    stranger.goto(f"{fragile_demo.url}feed")
    expect_loaded(stranger)
    expect(stranger.get_by_text("No headlines yet.")).to_be_visible()

    command = run_command(fragile_demo.redis.url, tmp_path, "The new office is open")

    assert (command.returncode, command.stderr) == (0, "")
    for page in (ada.page, stranger):
        expect_newest(page, "The new office is open", "the command line")
        expect(page.locator("#headlines li.new")).to_have_count(1)
        expect(page.get_by_text("No headlines yet.")).to_be_hidden()
    assert ada.errors == []


@thorough
def test_headline_of_a_task_is_on_the_page_at_once(fragile_demo: FragileDemo, stranger: Page) -> None:
    stranger.goto(f"{fragile_demo.url}feed")
    expect_loaded(stranger)
    broker = fragile_demo.redis.url.replace("unix:", "redis+socket:").replace("?db=", "?virtual_host=")

    with closing(Celery(broker=broker, set_as_current=False)) as celery_app:
        celery_app.conf.broker_transport_options = {"global_keyprefix": f"{fragile_demo.prefix}:celery:"}
        celery_app.send_task("demo.headline", ["It is tea time"], ignore_result=True)

        expect_newest(stranger, "It is tea time", "Celery")


def test_headline_of_a_visitor_is_on_every_page_newest_first(demo_url: str, visit: Visit) -> None:
    bob, cy = visit(demo_url, "Bob"), visit(demo_url, "Cy")
    open_feed(bob)
    open_feed(cy)

    publish(bob.page, "Bob has a cat")
    expect_newest(cy.page, "Bob has a cat", "Bob")
    publish(cy.page, "Cy has a dog")
    expect_newest(bob.page, "Cy has a dog", "Cy")

    for page in (bob.page, cy.page):
        page.reload()
        expect_newest(page, "Cy has a dog", "Cy")
        expect(page.locator("#headlines li").nth(1).locator("p")).to_have_text("Bob has a cat")
    assert bob.errors == cy.errors == []


@thorough
def test_disconnected_page_catches_up(demo_url: str, visit: Visit) -> None:
    dan, eve = visit(demo_url, "Dan"), visit(demo_url, "Eve")
    open_feed(dan)
    open_feed(eve)

    eve.context.set_offline(True)
    eve.page.goto("about:blank")
    publish(dan.page, "Eve missed this")
    expect_newest(dan.page, "Eve missed this", "Dan")
    eve.context.set_offline(False)
    eve.page.go_back()

    expect_newest(eve.page, "Eve missed this", "Dan")
    expect(eve.page.get_by_text("Eve missed this")).to_have_count(1)


def test_number_of_headlines_is_bounded(demo_url: str, visit: Visit) -> None:
    fay = visit(demo_url, "Fay")
    page = open_feed(fay)
    origin = {"Origin": demo_url.rstrip("/")}

    for number in range(31):
        form = {"text": f"Headline {number}"}
        assert fay.context.request.post(f"{demo_url}feed/headlines", form=form, headers=origin).status == 204

    expect_newest(page, "Headline 30", "Fay")
    page.reload()
    expect(page.locator("#headlines li")).to_have_count(30)
    expect(page.get_by_text("Headline 0", exact=True)).to_have_count(0)


def test_headline_is_never_html(demo_url: str, visit: Visit) -> None:
    gus = visit(demo_url, "<i>Gus</i>")
    page = open_feed(gus)

    publish(page, "<img src=x onerror=document.title='owned'>")

    expect_newest(page, "<img src=x onerror=document.title='owned'>", "<i>Gus</i>")
    assert page.locator(".feed img, .feed i").count() == 0
    assert page.title() == "Feed · jobpush demo"
    assert gus.errors == []


def test_anonymous_visitor_reads_but_cannot_publish(demo_url: str, stranger: Page) -> None:
    stranger.goto(f"{demo_url}feed")

    expect_loaded(stranger)
    expect(stranger.get_by_role("button", name="Publish")).to_have_count(0)
    response = stranger.request.post(
        f"{demo_url}feed/headlines", form={"text": "Buy!"}, headers={"Origin": demo_url.rstrip("/")}
    )
    assert response.status == 401
    assert response.json()["error"]["message"] == "Sign in to publish."


def test_other_sites_cannot_publish(demo_url: str, visit: Visit) -> None:
    hal = visit(demo_url, "Hal")

    response = hal.context.request.post(
        f"{demo_url}feed/headlines", form={"text": "Buy!"}, headers={"Origin": "https://evil.example"}
    )

    assert response.status == 403


@pytest.mark.parametrize("text", members([" ", "x" * 201]))
def test_invalid_headline_is_refused_from_every_source(
    demo_url: str, visit: Visit, text: str, redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    ida = visit(demo_url, "Ida")
    origin = {"Origin": demo_url.rstrip("/")}

    response = ida.context.request.post(f"{demo_url}feed/headlines", form={"text": text}, headers=origin)
    command = run_command(redis_server.url, tmp_path, text)

    assert response.status == 400
    assert response.json()["error"]["message"] == "A headline has 1 to 200 characters."
    assert (command.returncode, command.stderr) == (1, "Error: A headline has 1 to 200 characters.\n")


def test_command_without_a_redis_names_the_setting(tmp_path: Path) -> None:
    command = run_command(f"unix://{tmp_path}/nowhere.sock", tmp_path, "Hello?")

    assert command.returncode == 1
    assert command.stderr.startswith("Error: ")
    assert "Traceback" not in command.stderr
