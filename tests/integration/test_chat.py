"""The chat in real browsers: messages, members, and typing indicators."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.effort import thorough

from .conftest import PATIENCE_MS, Visitor, running_demo

Visit = Callable[[str, str], Visitor]

#: Records the membership events.
RECORD_CHANGES = """async () => {
  const { connect } = await import("/jobpush/static/jobpush.js");
  window.changes = [];
  for (const change of ["member_added", "member_removed"]) {
    connect().on(`pusher:${change}`, ({ user_id }) => window.changes.push([change, user_id]));
  }
}"""

#: Records the texts of the typing indicator: each is shown for three seconds only, so a test that polls may miss it.
RECORD_TYPING = """() => {
  const typing = document.querySelector("#typing");
  window.typing = [];
  const note = () => window.typing.push(typing.textContent);
  new MutationObserver(note).observe(typing, { childList: true, characterData: true, subtree: true });
}"""


def enter_chat(visitor: Visitor) -> Page:
    """Follow the link in the header, and wait until the visitor is listed."""
    visitor.page.get_by_role("link", name="Chat").click()
    expect(visitor.page.locator("#people .own")).to_have_count(1)
    return visitor.page


def field(page: Page) -> Locator:
    return page.get_by_label("Message")


def send_message(page: Page, text: str) -> None:
    field(page).fill(text)
    page.get_by_role("button", name="Send").click()


def expect_typing(page: Page, text: str) -> None:
    """Wait until the page has shown a text in its typing indicator since ``RECORD_TYPING``."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while text not in (texts := page.evaluate("window.typing")):
        assert time.monotonic() < deadline, f"the typing indicator only showed {texts}"
        page.wait_for_timeout(20)


def message(page: Page, text: str) -> Locator:
    return page.locator("#messages li", has=page.get_by_text(text, exact=True))


def person(page: Page, name: str) -> Locator:
    return page.locator("#people").get_by_text(name, exact=True)


def test_message_reaches_everyone_and_later_visitors(demo_url: str, visit: Visit) -> None:
    ada, bob = visit(demo_url, "Ada"), visit(demo_url, "Bob")
    enter_chat(ada)
    enter_chat(bob)

    send_message(ada.page, "Has anybody seen my cat?")
    expect(message(bob.page, "Has anybody seen my cat?")).to_contain_text("Ada")
    send_message(bob.page, "It is on the roof.")
    expect(message(ada.page, "It is on the roof.")).to_contain_text("Bob")

    latecomer = visit(demo_url, "Cleo")
    enter_chat(latecomer)
    for page in (ada.page, bob.page, latecomer.page):
        expect(message(page, "Has anybody seen my cat?")).to_have_count(1)
        expect(message(page, "It is on the roof.")).to_have_count(1)
    assert "roof" in latecomer.page.locator("#messages li").last.inner_text()
    assert [visitor.errors for visitor in (ada, bob, latecomer)] == [[], [], []]


@thorough
def test_own_messages_are_distinguishable(demo_url: str, visit: Visit) -> None:
    dan, eve = visit(demo_url, "Dan"), visit(demo_url, "Eve")
    enter_chat(dan)
    enter_chat(eve)

    send_message(dan.page, "This is mine.")

    expect(message(dan.page, "This is mine.")).to_have_class(re.compile("own"))
    expect(message(eve.page, "This is mine.")).not_to_have_class(re.compile("own"))


@thorough
def test_typing_is_shown_to_others_until_the_message_arrives(demo_url: str, visit: Visit) -> None:
    fay, gus = visit(demo_url, "Fay"), visit(demo_url, "Gus")
    enter_chat(fay)
    enter_chat(gus)
    expect(person(fay.page, "Gus")).to_be_visible()
    typing = fay.page.locator("#typing")
    fay.page.evaluate(RECORD_TYPING)

    field(gus.page).press_sequentially("Wait")
    expect_typing(fay.page, "Gus is typing…")
    field(gus.page).press("Enter")

    expect(message(fay.page, "Wait")).to_be_visible()
    expect(typing).to_have_text("")
    expect(gus.page.locator("#typing")).to_have_text("")


@thorough
def test_typing_without_a_message_is_hidden_again(demo_url: str, visit: Visit) -> None:
    hal, ida = visit(demo_url, "Hal"), visit(demo_url, "Ida")
    enter_chat(hal)
    enter_chat(ida)
    expect(person(hal.page, "Ida")).to_be_visible()
    hal.page.evaluate(RECORD_TYPING)

    field(ida.page).press_sequentially("Or not")
    expect_typing(hal.page, "Ida is typing…")

    expect(hal.page.locator("#typing")).to_have_text("")


@thorough
def test_two_tabs_are_one_person_until_both_are_closed(demo_url: str, visit: Visit) -> None:
    jim, kay, leo = visit(demo_url, "Jim"), visit(demo_url, "Kay"), visit(demo_url, "Leo")
    page = enter_chat(jim)
    for visitor in (kay, leo):
        enter_chat(visitor)
    second_tab = kay.open()
    second_tab.goto(f"{demo_url}chat")
    expect(person(second_tab, "Jim")).to_be_visible()
    for name in ("Jim", "Kay", "Leo"):
        expect(person(page, name)).to_have_count(1)
    page.evaluate(RECORD_CHANGES)

    second_tab.close()
    leo.context.close()  # closed later: when Leo is removed, Kay's closed tab has been processed
    expect(person(page, "Leo")).to_have_count(0)

    assert "Kay" not in [name for _, name in page.evaluate("window.changes")]
    expect(person(page, "Kay")).to_have_count(1)
    kay.context.close()
    expect(person(page, "Kay")).to_have_count(0)
    expect(person(page, "Jim")).to_have_count(1)


@pytest.fixture
def lenient_demo_url() -> Iterator[str]:
    """A demo with a long grace period, because navigation between pages is slow on a busy machine."""
    with running_demo(JOBPUSH_GRACE="15") as url:
        yield url


@thorough
def test_navigation_between_pages_removes_no_member(lenient_demo_url: str, visit: Visit) -> None:
    mia, ned, oda = (visit(lenient_demo_url, name) for name in ("Mia", "Ned", "Oda"))
    page = enter_chat(mia)
    for visitor in (ned, oda):
        enter_chat(visitor)
    for name in ("Ned", "Oda"):
        expect(person(page, name)).to_have_count(1)
    page.evaluate(RECORD_CHANGES)

    ned.page.reload()
    ned.page.get_by_role("link", name="Feed").click()
    expect(ned.page.get_by_role("heading", name="Feed")).to_be_visible()
    enter_chat(ned)
    oda.context.close()  # closed later: when Oda is removed, any removal of Ned would have arrived
    expect(person(page, "Oda")).to_have_count(0)

    assert "Ned" not in [name for _, name in page.evaluate("window.changes")]
    expect(person(page, "Ned")).to_have_count(1)


@thorough
def test_chat_text_and_names_are_never_html(demo_url: str, visit: Visit) -> None:
    text = "<img src=x onerror=document.title='owned'> & <b>bold</b>"
    name = "<i>Pia</i>"
    pia, quin = visit(demo_url, name), visit(demo_url, "Quin")
    enter_chat(quin)
    enter_chat(pia)
    quin.page.evaluate(RECORD_TYPING)

    field(pia.page).press_sequentially("<")
    expect_typing(quin.page, f"{name} is typing…")
    send_message(pia.page, text)

    expect(message(quin.page, text)).to_contain_text(name)
    expect(person(quin.page, name)).to_be_visible()
    for page in (pia.page, quin.page):
        assert page.locator(".chat img, .chat i, #messages p b").count() == 0
        assert page.title() == "Chat · jobpush demo"
    assert quin.errors == []


@thorough
def test_refused_message_returns_with_the_reason(demo_url: str, visit: Visit) -> None:
    page = enter_chat(visit(demo_url, "Rex"))

    send_message(page, "   ")
    expect(page.locator("#send .problem")).to_have_text("A message has 1 to 500 characters.")
    page.context.set_offline(True)
    send_message(page, "Can you hear me?")
    expect(page.locator("#send .problem")).to_contain_text("Check your connection")
    expect(field(page)).to_have_value("Can you hear me?")
    page.context.set_offline(False)
    page.get_by_role("button", name="Send").click()

    expect(message(page, "Can you hear me?")).to_be_visible()
    expect(page.locator("#send .problem")).to_have_text("")


def test_chat_needs_a_signed_in_user(demo_url: str, browser: Browser) -> None:
    stranger = browser.new_context()
    page = stranger.new_page()

    page.goto(f"{demo_url}chat")

    expect(page.get_by_label("Your name")).to_be_visible()
    form = {"socket_id": "1.2", "channel_name": "presence-chat"}
    assert stranger.request.post(f"{demo_url}jobpush/auth", form=form).status == 403
    stranger.close()


def test_other_sites_cannot_post_for_a_user(demo_url: str, visit: Visit) -> None:
    sam = visit(demo_url, "Sam")

    response = sam.context.request.post(
        f"{demo_url}chat/messages", form={"text": "Buy!"}, headers={"Origin": "https://evil.example"}
    )

    assert response.status == 403
    assert "Buy!" not in sam.context.request.get(f"{demo_url}chat/messages").text()


@thorough
def test_visitor_with_an_expired_session_is_asked_for_a_name(demo_url: str, visit: Visit) -> None:
    tom = visit(demo_url, "Tom")
    page = enter_chat(tom)
    tom.context.clear_cookies()

    send_message(page, "Am I still here?")

    expect(page.get_by_label("Your name")).to_be_visible()
