"""The cost of many tasks in a page, counted in frames and DOM changes, which do not depend on the machine."""

from __future__ import annotations

import time

from playwright.sync_api import Page, expect

from tests.waiting import PATIENCE

from .elements import part, put, send, stop_the_clock, task, until, with_clock

#: The title of the first card.
TITLE = "document.querySelector('jobpush-tasks').shadowRoot.querySelector('[part=title]')"
#: Maximum number of rendered cards.
MAX_CARDS = 60
#: Sends `count` tasks in the state `state`, created an hour ago; the last is the newest.
SEND_MANY = """([count, state, at]) => {
  const make = (_, index) => ({ task_id: `t${index}`, state, percent: 10, created_at: at - 3600 + index / 1000 });
  gateway.sendTasks(...Array.from({ length: count }, make));
}"""
#: Counts requested animation frames, and DOM changes in the element.
COUNT = """() => {
  window.counts = { frames: 0, changes: 0, added: 0, cards: new Set() };
  const request = window.requestAnimationFrame;
  window.requestAnimationFrame = (run) => { counts.frames += 1; return request.call(window, run); };
  new MutationObserver((records) => {
    counts.changes += records.length;
    for (const { target, addedNodes } of records) {
      counts.added += [...addedNodes].filter(({ part }) => part?.contains("item")).length;
      const card = (target.closest ? target : target.parentElement).closest("[part~=task]");
      if (card) counts.cards.add(card.ariaLabel);
    }
  }).observe(document.querySelector("jobpush-tasks").shadowRoot,
    { subtree: true, childList: true, attributes: true, characterData: true });
}"""


def run_until(page: Page, condition: str) -> None:
    """Let the page's clock run until a condition holds; the module of long lists arrives in real time."""
    deadline = time.monotonic() + PATIENCE
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, f"timed out waiting for {condition}"
        page.clock.run_for(100)


@with_clock
def test_waiting_tasks_have_no_motion_and_one_frame_a_second(page: Page) -> None:
    now = stop_the_clock(page)
    put(page, "<jobpush-tasks header group></jobpush-tasks>")
    page.evaluate(SEND_MANY, [1000, "PENDING", now])
    run_until(page, "document.querySelector('jobpush-tasks').offsetHeight > 50_000")
    page.clock.run_for(3000)
    page.evaluate(COUNT)

    page.clock.run_for(10_000)

    assert page.evaluate("document.getAnimations().length") == 0
    assert page.evaluate("document.querySelector('jobpush-tasks').shadowRoot.getAnimations().length") == 0
    assert page.evaluate("counts.frames") <= 11
    assert page.evaluate("counts.changes") == 0


@with_clock
def test_event_changes_only_its_card(page: Page) -> None:
    now = stop_the_clock(page)
    put(page, "<jobpush-tasks></jobpush-tasks>")
    page.evaluate(SEND_MANY, [1000, "PROGRESS", now])
    run_until(page, "document.querySelector('jobpush-tasks').offsetHeight > 50_000")
    page.clock.run_for(3000)
    page.evaluate(COUNT)

    page.evaluate(
        """(at) => {
          for (let step = 1; step <= 50; step += 1) {
            const task = { task_id: "t999", seq: 1 + step, state: "PROGRESS", percent: 10 + step };
            gateway.sendTasks({ ...task, created_at: at - 3600 + 0.999 });
          }
        }""",
        now,
    )
    page.clock.run_for(500)
    until(page, "counts.changes > 0")

    assert page.evaluate("[...counts.cards]") == ["Task t999"]
    assert page.evaluate("counts.changes") <= 30  # fifty events in one frame are rendered once


def test_scrolling_renders_only_what_comes_into_view(page: Page) -> None:
    put(page, "<jobpush-tasks header group></jobpush-tasks>")
    page.evaluate(SEND_MANY, [10_000, "PENDING", 3600])
    until(page, "document.querySelector('jobpush-tasks').offsetHeight > 500_000")
    page.evaluate(COUNT)
    page.evaluate(
        """() => {
          const list = document.querySelector("jobpush-tasks");
          window.wholeRenders = 0;
          list._show = function (tasks) { wholeRenders += 1; Object.getPrototypeOf(this)._show.call(this, tasks); };
        }"""
    )

    # In one task, so that the scrolling does not pause on a busy machine.
    page.evaluate(
        """() => new Promise((resolve) => {
          let left = 10;
          const step = () => (left-- ? (scrollBy(0, 300), requestAnimationFrame(step)) : resolve());
          step();
        })"""
    )

    assert page.evaluate("wholeRenders") <= 1  # after a frame that took longer than the pause that ends scrolling
    until(page, "wholeRenders > 0")  # after the scrolling
    assert part(page, "task").count() <= MAX_CARDS
    # The page scrolls by 3,000 pixels, and a card has about a hundred; a card that stays in view is not rendered again.
    assert 10 <= page.evaluate("counts.added") <= MAX_CARDS
    expect(part(page, "title").first).not_to_have_text("Task t9999")


def test_focused_card_out_of_sight_shows_its_group(page: Page) -> None:
    put(page, "<jobpush-tasks></jobpush-tasks>")
    page.evaluate(SEND_MANY, [500, "PENDING", 3600])
    until(page, "document.querySelector('jobpush-tasks').scrollHeight > 25_000")
    part(page, "cancel").first.focus()
    focused = "document.querySelector('jobpush-tasks').shadowRoot.activeElement.closest('[part=item]')"
    assert page.evaluate(f"{focused}.dataset.group") is None
    page.evaluate("scrollTo(0, 20_000)")

    page.evaluate("document.querySelector('jobpush-tasks').toggleAttribute('group')")

    until(page, f"{focused}.dataset.group === 'Waiting'")


def test_list_that_becomes_higher_is_filled(page: Page) -> None:
    page.set_viewport_size({"width": 800, "height": 300})
    put(page, "<jobpush-tasks></jobpush-tasks>")
    page.evaluate("Object.assign(document.querySelector('jobpush-tasks').style, { height: '90vh', overflow: 'auto' })")
    page.evaluate(SEND_MANY, [500, "PENDING", 3600])
    until(page, "document.querySelector('jobpush-tasks').scrollHeight > 25_000")

    page.set_viewport_size({"width": 800, "height": 1800})

    until(
        page,
        """[...document.querySelector("jobpush-tasks").shadowRoot.querySelectorAll("[part=item]")]
          .at(-1).getBoundingClientRect().bottom > 1600""",
    )


def test_title_is_fitted_again_after_a_change_of_the_font(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 640})
    put(page, "<jobpush-tasks></jobpush-tasks>")
    name = "a film of the summer holidays by the sea with everybody, part two of five"
    send(page, task(state="PROGRESS", title=f"Encode {name}.mov"))
    expect(part(page, "title")).to_be_visible()
    until(page, f"{TITLE}.scrollHeight <= {TITLE}.clientHeight + 2")

    page.evaluate("document.querySelector('jobpush-tasks').style.fontSize = '1.6rem'")

    until(page, f"{TITLE}.textContent.includes('…') && {TITLE}.scrollHeight <= {TITLE}.clientHeight + 2")
    assert page.evaluate(f"{TITLE}.textContent").endswith(".mov")


def test_long_list_that_has_left_the_page_stops_listening(page: Page) -> None:
    page.evaluate(
        """() => {
          window.listeners = 0;
          const add = window.addEventListener;
          window.addEventListener = (type, run, options) => {
            if (type === "scroll") {
              listeners += 1;
              options.signal.addEventListener("abort", () => (listeners -= 1));
            }
            add.call(window, type, run, options);
          };
        }"""
    )
    put(page, "<jobpush-tasks></jobpush-tasks>")
    page.evaluate(SEND_MANY, [500, "PENDING", 3600])
    until(page, "listeners === 1")

    page.evaluate("document.querySelector('jobpush-tasks').remove(); window.dispatchEvent(new Event('scroll'))")

    assert page.evaluate("listeners") == 0
