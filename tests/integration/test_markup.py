"""Texts of tasks and users are never interpreted as markup, in any field of any page."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from urllib.parse import quote

import pytest
from celery import Celery
from playwright.sync_api import Browser, Locator, Page, expect

from jobpush import JobPush, TaskCancelled, progress
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.testing import PATIENCE
from tests.effort import thorough
from tests.markup import CARELESS_PAGE, SHORT_TEXTS, TEXTS, injected, record_scripts

from .conftest import PATIENCE_MS, FragileDemo, Visitor, running_demo
from .test_chat import RECORD_TYPING, enter_chat, expect_typing, field, person
from .test_demo import MakeClip, expect_state, video

Visit = Callable[..., Visitor]

#: Longer than any field allows; for pages that only refuse the input.
ALL_TEXTS = " ".join(TEXTS)


@pytest.fixture(scope="module")
def demo() -> Iterator[FragileDemo]:
    """One demo for all tests of this module, with a Redis that other applications can reach."""
    with EmbeddedRedis() as server, running_demo(JOBPUSH_REDIS_URL=server.url, JOBPUSH_PREFIX="shared") as url:
        yield FragileDemo(url, server, "shared")


@pytest.fixture(params=[pytest.param("with policy", marks=thorough), "without policy"])
def visit_with(request: pytest.FixtureRequest, demo: FragileDemo, visit: Visit) -> Visit:
    """
    Return a function that creates visitors whose browsers enforce or bypass the demo's Content-Security-Policy.

    With the policy, injected markup causes a violation in the console; without it, injected scripts run. The visitors
    of the two variants have different user names.
    """
    is_policy_off = request.param == "without policy"
    return lambda name: visit(demo.url, f"{name} {int(is_policy_off)}", bypass_csp=is_policy_off)


@pytest.fixture
def celery_app() -> Iterator[Celery]:
    """A separate application that runs its tasks in this process."""
    with closing(Celery("shouting", broker="memory://", set_as_current=False)) as celery_app:
        celery_app.conf.task_always_eager = True
        yield celery_app


def run_tasks(celery_app: Celery, jobpush: JobPush, user: str, text: str) -> None:
    """
    Run a task that is cancelled and one that fails, with the text in every field that a task can set.

    No task succeeds: the demo hides successful tasks that have no video.
    """

    @celery_app.task(name=f"leave {text}", shared=False)  # not registered with the applications of other tests
    @jobpush.track(user="user", title="{title}")
    def leave(user: str, title: str) -> None:
        progress.stage(text)
        progress.log(text)
        progress.update(1, total=2, message=text, url=text, **{text: [text, {text: text}]})
        raise TaskCancelled(text)

    @celery_app.task(name=text, shared=False)
    @jobpush.track(user="user")
    def fail(user: str) -> None:
        raise RuntimeError(text)

    leave.delay(user, text)
    fail.delay(user)


def expect_texts(locator: Locator, texts: set[str]) -> None:
    """Wait until each of the texts is shown unchanged; a shortened title has the full text as its tooltip."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    shown = "elements => elements.map((element) => element.title || element.textContent)"
    while missing := texts - set(locator.evaluate_all(shown)):
        assert time.monotonic() < deadline, f"not shown: {missing}"
        locator.page.wait_for_timeout(20)


def assert_unharmed(*pages: Page) -> None:
    assert [injected(page) for page in pages] == [[]] * len(pages)


def test_each_text_would_do_harm_as_markup(browser: Browser) -> None:
    context = browser.new_context(bypass_csp=True)
    ran: list[str] = []
    record_scripts(context, ran)
    page = context.new_page()

    for text in TEXTS:
        as_markup = CARELESS_PAGE.format(html.unescape(text) if text.startswith("&") else text)
        page.set_content(f"<!doctype html><title>{text}</title><body>{as_markup}")
        assert injected(page), text

    assert len(ran) >= 5
    page.set_content(CARELESS_PAGE.format(html.escape(ALL_TEXTS)))
    assert injected(page) == []
    context.close()


def test_texts_of_a_task_are_never_markup(demo: FragileDemo, visit_with: Visit, celery_app: Celery) -> None:
    visitor = visit_with(SHORT_TEXTS[1])
    jobpush = JobPush(celery_app, redis_url=demo.redis.url, prefix=demo.prefix, publish_timeout=PATIENCE)
    cards = visitor.page.locator("jobpush-tasks")

    for text in TEXTS:
        run_tasks(celery_app, jobpush, visitor.name, text)
        jobpush.notify(visitor.name, text, {text: text})

    expect(cards.locator("[part~=task]")).to_have_count(2 * len(TEXTS))
    for part in ("title", "message", "error"):
        expect_texts(cards.locator(f"[part={part}]"), set(TEXTS))
    visitor.page.reload()  # now from the snapshots instead of the events
    expect(cards.locator("[part~=task]")).to_have_count(2 * len(TEXTS))
    assert_unharmed(visitor.page)
    assert cards.locator("a").count() == 0  # a URL in a task's data is not a link
    assert visitor.errors == []


def test_file_names_are_never_markup(visit_with: Visit, make_clip: MakeClip) -> None:
    visitor = visit_with("Ada")
    page = visitor.page
    clip = make_clip("cat.mov", seconds=1).read_bytes()
    names = {text: f"{text}.mov" for text in SHORT_TEXTS}
    film = names.pop(SHORT_TEXTS[0])

    page.locator("#files").set_input_files([as_file(film, clip), *(as_file(name) for name in names.values())])

    for name in names.values():
        expect_state(page, name, "FAILURE")
    expect_texts(page.locator("jobpush-tasks [part=title]"), {film, *names.values()})
    expect(video(page, film.replace(".mov", ".mp4"))).to_be_visible()
    assert_unharmed(page)
    assert visitor.errors == []


def as_file(name: str, content: bytes = b"no video") -> Any:
    return {"name": name, "mimeType": "video/quicktime", "buffer": content}


def test_chat_messages_and_user_names_are_never_markup(demo: FragileDemo, visit_with: Visit) -> None:
    visitors = [visit_with(SHORT_TEXTS[number]) for number in (0, 3)]
    pages = [enter_chat(visitor) for visitor in visitors]
    same_origin = {"Origin": demo.url.rstrip("/")}

    for text in TEXTS:
        for path in ("chat/messages", "feed/headlines"):
            response = visitors[0].context.request.post(f"{demo.url}{path}", form={"text": text}, headers=same_origin)
            assert response.status == 204

    for page in pages:
        for visitor in visitors:
            expect(person(page, visitor.name)).to_be_visible()
        expect_texts(page.locator("#messages p"), set(TEXTS))
    pages[1].evaluate(RECORD_TYPING)
    field(pages[0]).press_sequentially("x")
    expect_typing(pages[1], f"{visitors[0].name} is typing…")
    feed = visitors[1].open("feed")
    expect_texts(feed.locator("#headlines p"), set(TEXTS))
    assert_unharmed(*pages, feed)
    assert [visitor.errors for visitor in visitors] == [[]] * len(visitors)


@thorough
def test_refused_input_is_never_markup(demo: FragileDemo, visit_with: Visit) -> None:
    visitor = visit_with("Bob")
    page = visitor.context.new_page()  # a page whose console errors are not recorded: it requests missing resources

    for path in ["{}", "videos/{}/film.mp4", "jobpush/tasks/{}", "jobpush/static/{}", "app/{}", "app/key?protocol={}"]:
        page.goto(demo.url + path.format(quote(ALL_TEXTS, safe="")))
        assert injected(page) == [], path
    visitor.context.clear_cookies()
    page.goto(demo.url)
    page.get_by_label("Your name").evaluate("field => field.removeAttribute('maxlength')")
    page.get_by_label("Your name").fill(ALL_TEXTS)
    page.get_by_role("button", name="Start").click()

    expect(page.get_by_text("This name is too long")).to_be_visible()
    expect(page.get_by_label("Your name")).to_have_value(ALL_TEXTS)
    assert_unharmed(page)
    assert visitor.errors == []
