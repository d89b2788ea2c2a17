"""The elements in a real browser; see ``elements.py``."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.markup import TEXTS, injected, record_scripts

from .elements import (
    NOW,
    assert_announced,
    at_noon,
    listen_to_announcements,
    next_frame,
    part,
    put,
    send,
    stop_the_clock,
    task,
    titles,
    until,
    with_clock,
    with_own_page,
)

# ---- Appearance of each state ----


@at_noon
@pytest.mark.parametrize(
    ("fields", "state", "bar", "detail"),
    [
        ({"state": "PENDING", "created_at": NOW}, "Waiting", None, ""),
        ({"state": "PENDING", "created_at": NOW - 90}, "Waiting", None, "for 2 min"),
        ({"state": "PENDING", "created_at": NOW - 90, "ahead": 3}, "Waiting", None, "for 2 min · 3 before it"),
        ({"state": "RECEIVED", "created_at": NOW - 12, "run_at": None}, "Waiting", None, "for 12 s"),
        ({"state": "PENDING", "run_at": NOW + 100}, "Waiting", None, "starts in 2 min"),
        ({"state": "RECEIVED", "run_at": NOW + 86_400}, "Waiting", None, "starts at 1/2/2026, 12:00:00 PM"),
        ({"state": "STARTED"}, "Running", None, ""),
        ({"state": "PROGRESS", "percent": None}, "Running", None, ""),
        ({"state": "PROGRESS", "percent": 3.9}, "Running", 3.9, "3 %"),
        (
            {"state": "PROGRESS", "current": 1200, "total": 4000, "percent": 30.0, "rate": 58.24, "eta": 48.1},
            "Running",
            30,
            "30 % · 1,200 / 4,000 · 58.2/s · less than a minute left",
        ),
        ({"state": "PROGRESS", "percent": 1, "eta": 600}, "Running", 1, "1 % · about 10 min left"),
        ({"state": "PROGRESS", "percent": 1, "eta": 9000}, "Running", 1, "1 % · about 3 h left"),
        ({"state": "PROGRESS", "current": 1, "total": 4}, "Running", 25, "25 % · 1 / 4"),
        ({"state": "PROGRESS", "percent": None, "current": 1234, "rate": 58.2}, "Running", None, "1,234 · 58.2/s"),
        ({"state": "PROGRESS", "percent": 5, "attempt": 3}, "Running", 5, "attempt 3 · 5 %"),
        ({"state": "STARTED", "attempt": 2, "max_attempts": 4}, "Running", None, "attempt 2 of 4"),
        ({"state": "STARTED", "attempt": 5, "max_attempts": 4}, "Running", None, "attempt 5"),
        (
            {"state": "RETRY", "attempt": 1, "max_attempts": 4, "run_at": NOW + 7.2, "percent": 40},
            "Trying again",
            40,
            "starts in 7 s · attempt 2 of 4 · 40 %",
        ),
        ({"state": "PROGRESS", "percent": 5, "cancelling": True}, "Cancelling…", 5, "5 %"),
        ({"state": "RETRY", "percent": 40, "rate": 1, "eta": 1}, "Trying again", 40, "attempt 2 · 40 %"),
        ({"state": "SUCCESS", "current": 3, "total": 4, "percent": None}, "Done", 100, "100 % · 3 / 4"),
        ({"state": "FAILURE", "percent": 40}, "Failed", 40, "40 %"),
        ({"state": "FAILURE"}, "Failed", 0, ""),
        ({"state": "REVOKED", "cancelling": True}, "Cancelled", 0, ""),
        ({"state": "LOST"}, "The worker was lost", 0, ""),
    ],
)
def test_each_state_has_its_text_and_bar(
    page: Page, fields: dict[str, Any], state: str, bar: float | None, detail: str
) -> None:
    put(page, "<jobpush-tasks></jobpush-tasks>")

    send(page, task(**fields))

    expect(part(page, "state")).to_have_text(state)
    assert part(page, "detail").text_content() == detail
    assert part(page, "bar").get_attribute("value") == (None if bar is None else str(bar))
    assert part(page, "task").get_attribute("data-state") == fields["state"]
    assert part(page, "task").get_attribute("part") == f"task {fields['state'].lower()}"
    assert part(page, "bar").get_attribute("part") == f"bar {fields['state'].lower()}"


@with_clock
def test_waiting_time_ticks_without_announcements(page: Page) -> None:
    now = stop_the_clock(page)
    put(page, "<jobpush-tasks></jobpush-tasks>")
    listen_to_announcements(page)
    retrying = task("a", state="RETRY", run_at=now + 9, created_at=now + 1)
    send(page, retrying, task("b", state="PENDING", created_at=now - 11))
    details = []

    for _ in range(3):
        page.clock.run_for(1000)
        details.append(part(page, "detail").all_text_contents())

    assert details == [
        ["starts in 9 s · attempt 2", "for 11 s"],
        ["starts in 8 s · attempt 2", "for 12 s"],
        ["starts in 7 s · attempt 2", "for 13 s"],
    ]
    assert page.evaluate("gateway.announcements") == []


@with_clock
def test_no_timer_runs_without_waiting_tasks(page: Page) -> None:
    now = stop_the_clock(page)
    put(page, "<jobpush-tasks></jobpush-tasks>")
    send(page, task(state="PENDING", created_at=now), task(state="STARTED", seq=2))
    page.clock.run_for(50)
    expect(part(page, "state")).to_have_text("Running")
    page.evaluate("() => { window.requestAnimationFrame = () => { throw new Error('it ticks') } }")

    page.clock.run_for(5000)  # the page fixture fails on uncaught errors


def test_error_replaces_the_message(page: Page) -> None:
    put(page, "<jobpush-tasks></jobpush-tasks>")

    send(page, task(state="RETRY", message="pass 1", error="The disk is full"))

    expect(part(page, "error")).to_have_text("The disk is full")
    expect(part(page, "message")).to_be_hidden()


def test_progress_of_a_failed_task_is_shown_beside_an_error_of_any_length(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 640})
    put(page, "<jobpush-tasks></jobpush-tasks>")

    send(page, task(state="FAILURE", percent=40, error="This file is not a video that can be read. " * 2))

    expect(part(page, "detail")).to_have_text("40 %")
    error, detail = part(page, "error").bounding_box(), part(page, "detail").bounding_box()
    assert error and detail
    assert error["y"] + error["height"] > detail["y"] + detail["height"] > error["y"]


def test_task_without_a_title_shows_its_name_or_id(page: Page) -> None:
    put(page, "<jobpush-tasks></jobpush-tasks>")

    named = task("a", state="PENDING", title="", name="video.encode", created_at=2)
    send(page, named, task("b", state="PENDING", title=None))

    expect(part(page, "title").last).to_have_text("b")
    assert titles(page) == ["video.encode", "b"]


def test_bar_is_a_progressbar_with_a_name(page: Page) -> None:
    put(page, "<jobpush-tasks></jobpush-tasks>")

    send(page, task(state="PROGRESS", percent=40, title="Encode cat.mov"))

    expect(page.get_by_role("progressbar", name="Encode cat.mov")).to_have_js_property("value", 40)
    expect(page.get_by_role("listitem").get_by_role("group", name="Encode cat.mov")).to_be_visible()


@with_own_page
def test_markup_in_any_field_stays_text(page: Page) -> None:
    ran: list[str] = []
    record_scripts(page.context, ran)
    page.reload()
    put(page, "<jobpush-tasks></jobpush-tasks>")
    fields = ("name", "title", "message", "state", "root_id", "parent_id", "group_id")

    page.evaluate(
        """(texts) => {
            for (const text of texts) {
                const element = Object.assign(document.createElement("jobpush-progress"), { taskId: text });
                document.querySelector("main").append(element);
                gateway.send(text, text, text); // an event of the application
                gateway.send("jobpush:log", { task_id: text, lines: [text] });
            }
        }""",
        TEXTS,
    )
    for text in TEXTS:
        data = {"url": text, "result": text, text: [text]}
        ended = task(f"{text} fails", state="FAILURE", title="", name=text, error=text, data=data)
        send(page, {**dict.fromkeys(fields, text), "task_id": text, "data": data, "error": None}, ended)

    tasks = page.locator("jobpush-tasks")
    expect(part(tasks, "task")).to_have_count(2 * len(TEXTS))
    for name in ("message", "error"):
        assert set(TEXTS) <= set(part(tasks, name).all_text_contents())
    # Long titles are shortened; the tooltip has the full text.
    tooltips = "nodes => nodes.map((node) => node.title)"
    assert set(TEXTS) <= set(part(tasks, "title").evaluate_all(tooltips))
    assert set(part(page.locator("jobpush-progress"), "title").evaluate_all(tooltips)) == set(TEXTS)
    assert injected(page) == []
    assert page.locator("a").count() == 0  # an unsafe URL of a task is not a link
    assert ran == []


def test_all_texts_can_be_replaced(page: Page) -> None:
    page.evaluate(
        """async () => {
            const { strings } = await import("/jobpush/static/jobpush.js");
            Object.assign(strings, { SUCCESS: "Fertig", percent: (percent) => `${percent} vom Hundert` });
        }"""
    )
    put(page, "<jobpush-tasks></jobpush-tasks>")

    send(page, task(state="SUCCESS"))

    expect(part(page, "state")).to_have_text("Fertig")
    expect(part(page, "detail")).to_have_text("100 vom Hundert")


# ---- The list ----


def test_newest_task_is_on_top(page: Page) -> None:
    put(page, "<jobpush-tasks></jobpush-tasks>")

    send(page, task("old", state="PENDING", created_at=1), task("new", state="PENDING", created_at=2))

    expect(part(page, "task")).to_have_count(2)
    assert titles(page) == ["Task new", "Task old"]


def test_limit_shows_the_newest_only(page: Page) -> None:
    put(page, '<jobpush-tasks limit="2"></jobpush-tasks>')

    send(page, *[task(str(number), state="PENDING", created_at=number) for number in range(5)])

    expect(part(page, "task")).to_have_count(2)
    page.evaluate("document.querySelector('jobpush-tasks').limit = 3")
    expect(part(page, "task")).to_have_count(3)
    assert titles(page) == ["Task 4", "Task 3", "Task 2"]
    assert page.locator("jobpush-tasks").get_attribute("limit") == "3"


def test_nodes_of_a_task_are_kept_while_the_list_changes(page: Page) -> None:
    put(page, "<jobpush-tasks></jobpush-tasks>")
    send(page, task("a", state="PENDING"))
    node = part(page, "task").element_handle()

    send(page, task("b", state="PENDING", created_at=2), task("a", state="PROGRESS", percent=5, seq=2))

    expect(part(page, "detail").first).to_have_text("5 %")
    assert part(page, "task").first.evaluate("(now, before) => now === before", node)


def test_late_event_does_not_move_the_bar_back_but_a_new_attempt_does(page: Page) -> None:
    put(page, "<jobpush-tasks></jobpush-tasks>")
    send(page, task(state="PROGRESS", percent=50, seq=5))
    expect(part(page, "detail")).to_have_text("50 %")

    send(page, task(state="PROGRESS", percent=40, seq=4))
    next_frame(page)
    expect(part(page, "detail")).to_have_text("50 %")
    send(page, task(state="PROGRESS", percent=0, seq=6, attempt=2))

    expect(part(page, "detail")).to_have_text("attempt 2 · 0 %")


def test_empty_list_is_shown_once_it_is_known(page: Page) -> None:
    page.evaluate("document.querySelector('main').innerHTML = '<jobpush-tasks></jobpush-tasks>'")
    next_frame(page)
    expect(page.get_by_text("No tasks yet")).to_be_hidden()

    established = '{"socket_id": "1.2", "activity_timeout": 120}'
    page.evaluate(f"gateway.send('pusher:connection_established', {established}, undefined)")
    expect(page.locator("jobpush-tasks")).to_have_attribute("data-connection", "connected")
    next_frame(page)
    expect(page.get_by_text("No tasks yet")).to_be_hidden()
    page.evaluate("gateway.welcome()")
    expect(page.get_by_text("No tasks yet")).to_be_visible()
    send(page, task(state="PENDING"))

    expect(page.get_by_text("No tasks yet")).to_be_hidden()


def test_page_may_set_the_text_of_an_empty_list(page: Page) -> None:
    put(page, '<jobpush-tasks><p slot="empty">Upload something</p></jobpush-tasks>')

    expect(page.get_by_text("Upload something")).to_be_visible()
    expect(page.get_by_text("No tasks yet")).to_be_hidden()


def test_hidden_tab_without_frames_is_kept_up_to_date(page: Page) -> None:
    page.evaluate("window.requestAnimationFrame = () => 0")
    put(page, "<jobpush-tasks></jobpush-tasks>")

    send(page, task(state="SUCCESS"))

    expect(part(page, "state")).to_have_text("Done")
    until(page, "gateway.events.length === 2")


def test_task_of_the_page_continues_as_the_task_of_the_server(page: Page) -> None:
    put(page, "<jobpush-tasks></jobpush-tasks>")
    show = "task => document.querySelector('jobpush-tasks').connection.show(task)"

    page.evaluate(show, task("u", title="cat.mov", state="PROGRESS", percent=60, message="uploading"))
    expect(part(page, "message")).to_have_text("uploading")
    node = part(page, "task").element_handle()
    send(page, task("u", title="Encode cat.mov", state="PENDING", seq=1, percent=None))
    expect(part(page, "state")).to_have_text("Waiting")
    page.evaluate(show, task("u", state="PROGRESS", percent=61))
    next_frame(page)

    expect(part(page, "state")).to_have_text("Waiting")
    assert part(page, "bar").get_attribute("value") is None
    assert part(page, "task").evaluate("(now, before) => now === before", node)


# ---- One task ----


def test_one_task_is_shown_by_its_id(page: Page) -> None:
    put(page, '<jobpush-progress task-id="a"></jobpush-progress>')

    send(page, task("b", state="PROGRESS"), task("a", state="PROGRESS", percent=5))

    expect(page.locator("jobpush-progress")).to_have_attribute("data-state", "PROGRESS")
    assert titles(page) == ["Task a"]
    assert page.locator("jobpush-progress").evaluate("element => element.task.percent") == 5


def test_late_element_shows_the_known_state(page: Page) -> None:
    put(page, "<jobpush-tasks></jobpush-tasks>")
    send(page, task("a", state="PROGRESS", percent=5))

    page.evaluate("document.querySelector('main').insertAdjacentHTML('beforeend', '<jobpush-progress task-id=a>')")

    expect(part(page.locator("jobpush-progress"), "title")).to_have_text("Task a")
    assert page.evaluate("gateway.sockets.length") == 1


def test_workflow_member_is_received_on_its_own_channel_and_not_listed(page: Page) -> None:
    put(page, '<jobpush-tasks></jobpush-tasks><jobpush-progress task-id="member"></jobpush-progress>')
    subscribed = page.evaluate("gateway.socket.sent.map(({ data }) => data.channel)")
    assert subscribed == ["private-task-member"]

    page.evaluate(
        "task => gateway.send('jobpush:task', task, 'private-task-member')",
        task("member", state="PROGRESS", title="Of an album", seq=1),
    )

    expect(part(page.locator("jobpush-progress"), "title")).to_have_text("Of an album")
    assert part(page.locator("jobpush-tasks"), "task").count() == 0


def test_task_id_is_attribute_and_property_and_may_change(page: Page) -> None:
    put(page, '<jobpush-progress task-id="a"></jobpush-progress>')
    send(page, task("a", state="SUCCESS"), task("b", state="PENDING"))
    expect(part(page, "title")).to_have_text("Task a")

    page.locator("jobpush-progress").evaluate("element => { element.taskId = 'b' }")

    expect(part(page, "title")).to_have_text("Task b")
    expect(page.locator("jobpush-progress")).to_have_attribute("task-id", "b")
    expect(page.locator("jobpush-progress")).to_have_attribute("data-state", "PENDING")
    unsubscribed = page.evaluate("gateway.socket.sent.filter(({ event }) => event === 'pusher:unsubscribe')")
    assert [frame["data"] for frame in unsubscribed] == [{"channel": "private-task-a"}]


def test_unknown_task_shows_nothing(page: Page) -> None:
    put(page, '<jobpush-progress task-id="a"></jobpush-progress><jobpush-progress></jobpush-progress>')
    next_frame(page)

    assert part(page, "task").count() == 0
    expect(page.get_by_text("No tasks yet").first).to_be_hidden()


# ---- DOM events ----


def test_task_element_fires_on_each_change_and_once_at_the_end(page: Page) -> None:
    put(page, "<jobpush-tasks></jobpush-tasks>")

    for seq, state in enumerate(["PENDING", "PROGRESS", "SUCCESS"], start=1):
        send(page, task(state=state, seq=seq))
        next_frame(page)
    send(page, task(state="SUCCESS", seq=3), task(state="SUCCESS", seq=4, message="late"))
    next_frame(page)

    names = [name for name, _ in page.evaluate("gateway.events")]
    assert names == ["update", "update", "update", "success", "update"]


@pytest.mark.parametrize(
    ("state", "event"),
    [("SUCCESS", "success"), ("FAILURE", "failure"), ("LOST", "failure"), ("REVOKED", "revoked")],
)
def test_every_end_state_has_its_event(page: Page, state: str, event: str) -> None:
    put(page, '<jobpush-progress task-id="a"></jobpush-progress>')

    send(page, task(state=state))

    until(page, "gateway.events.length === 2")
    assert page.evaluate("gateway.events") == [["update", "a"], [event, "a"]]


def test_second_failure_fires_a_second_event(page: Page) -> None:
    put(page, "<jobpush-tasks></jobpush-tasks>")

    send(page, task(state="LOST", seq=1))
    next_frame(page)
    send(page, task(state="LOST", seq=2, attempt=2))
    next_frame(page)

    assert [name for name, _ in page.evaluate("gateway.events")].count("failure") == 2


def test_end_before_an_element_was_there_is_marked_as_replayed(page: Page) -> None:
    put(page, "<jobpush-tasks></jobpush-tasks>")
    next_frame(page)
    page.evaluate(
        "document.addEventListener('jobpush-progress-success', ({ target, detail }) => "
        "gateway.events.push([target.localName, detail.replayed === true]))"
    )
    send(page, task(state="SUCCESS"))
    next_frame(page)

    page.evaluate(
        "document.querySelector('main').append(Object.assign("
        "document.createElement('jobpush-progress'), { taskId: 'a' }))"
    )
    next_frame(page)

    events = [event for event in page.evaluate("gateway.events") if event[0].startswith("jobpush-")]
    assert events == [["jobpush-tasks", False], ["jobpush-progress", True]]


# ---- Cancel ----


def test_task_can_be_cancelled_by_keyboard(page: Page) -> None:
    page.route("**/jobpush/tasks/a/cancel", lambda route: route.fulfill(status=202, json={"cancelling": True}))
    put(page, "<jobpush-tasks></jobpush-tasks>")
    send(page, task(state="PROGRESS", title="Encode cat.mov"))
    button = page.get_by_role("button", name="Cancel Encode cat.mov")
    expect(button).to_be_visible()

    page.keyboard.press("Tab")
    with page.expect_request("**/jobpush/tasks/a/cancel") as request:
        page.keyboard.press("Enter")
    assert request.value.method == "POST"
    assert request.value.headers["x-requested-with"] == "jobpush"
    send(page, task(state="PROGRESS", title="Encode cat.mov", cancelling=True, seq=2))

    expect(button).to_be_hidden()
    expect(part(page, "state")).to_have_text("Cancelling…")
    expect(part(page, "task")).to_be_focused()


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED", "LOST"])
def test_ended_task_cannot_be_cancelled(page: Page, state: str) -> None:
    put(page, "<jobpush-tasks></jobpush-tasks>")

    send(page, task(state=state))

    expect(part(page, "title")).to_be_visible()
    expect(part(page, "cancel")).to_be_hidden()


def test_page_can_hide_cancel_buttons(page: Page) -> None:
    put(page, "<jobpush-tasks no-cancel></jobpush-tasks>")

    send(page, task(state="PROGRESS"))

    expect(part(page, "title")).to_be_visible()
    expect(part(page, "cancel")).to_be_hidden()


def test_page_can_handle_cancel_itself(page: Page) -> None:
    requests: list[str] = []
    page.on("request", lambda request: request.method == "POST" and requests.append(request.url))
    put(page, "<jobpush-tasks></jobpush-tasks>")
    page.evaluate("document.addEventListener('jobpush-progress-cancel', (event) => event.preventDefault())")
    send(page, task(state="PROGRESS"))

    part(page, "cancel").click()

    until(page, "gateway.events.at(-1)[0] === 'cancel'")
    assert requests == []


def test_task_is_cancelled_after_an_update_of_the_server_has_renamed_the_parts(page: Page) -> None:
    page.route("**/cancel-*.js", lambda route: route.fulfill(status=404))
    page.route("**/jobpush/tasks/a/cancel", lambda route: route.fulfill(status=202, json={}))
    put(page, "<jobpush-tasks></jobpush-tasks>")
    send(page, task(state="PROGRESS"))

    with page.expect_request("**/jobpush/tasks/a/cancel"):
        part(page, "cancel").click()


def test_failed_cancel_is_shown_and_can_be_retried(page: Page) -> None:
    page.route("**/jobpush/tasks/a/cancel", lambda route: route.fulfill(status=503))
    put(page, "<jobpush-tasks></jobpush-tasks>")
    send(page, task(state="PROGRESS", message="pass 1"))

    part(page, "cancel").click()

    expect(part(page, "error")).to_have_text("Could not be cancelled; try again")
    expect(part(page, "message")).to_be_hidden()
    expect(part(page, "live")).to_have_text("Task a: Could not be cancelled; try again")
    send(page, task(state="PROGRESS", percent=7, seq=2))
    expect(part(page, "detail")).to_have_text("7 %")
    expect(part(page, "error")).to_be_visible()
    expect(part(page, "cancel")).to_be_visible()
    send(page, task(state="PROGRESS", message="pass 2", cancelling=True, seq=3))
    expect(part(page, "message")).to_have_text("pass 2")
    expect(part(page, "error")).to_be_hidden()


@with_clock
def test_cancel_can_be_undone(page: Page) -> None:
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    stop_the_clock(page)
    put(page, "<jobpush-tasks></jobpush-tasks>")
    send(page, task(state="PROGRESS"))
    page.clock.run_for(50)

    part(page, "cancel").click()
    expect(part(page, "state")).to_have_text("Cancelling…")
    page.get_by_role("button", name="Undo: cancel Task a").click()
    page.clock.run_for(60_000)

    expect(part(page, "state")).to_have_text("Running")
    expect(part(page, "cancel")).to_have_text("Cancel")
    assert [url for url in requests if "/cancel" in url and url.endswith("/cancel")] == []


@with_clock
def test_unconfirmed_cancel_times_out(page: Page) -> None:
    page.route("**/jobpush/tasks/a/cancel", lambda route: route.fulfill(status=202, json={"cancelling": True}))
    stop_the_clock(page)
    put(page, "<jobpush-tasks></jobpush-tasks>")
    send(page, task(state="PROGRESS"))
    page.clock.run_for(50)

    part(page, "cancel").click()
    expect(part(page, "cancel")).to_have_text("Undo")
    page.clock.run_for(2500)
    expect(part(page, "cancel")).to_be_hidden()
    page.clock.run_for(10_000)

    expect(part(page, "error")).to_have_text("Could not be cancelled; try again")
    expect(part(page, "cancel")).to_have_text("Cancel")


def test_nothing_moves_under_the_pointer(page: Page) -> None:
    put(page, "<jobpush-tasks></jobpush-tasks>")
    send(page, task("a", state="PROGRESS", created_at=1), task("b", state="PROGRESS", created_at=2))
    expect(part(page, "task")).to_have_count(2)
    button = page.get_by_role("button", name="Cancel Task b")
    with page.expect_response("**/list-*.js"):
        button.hover()
    next_frame(page)
    before = button.bounding_box()

    send(page, task("c", state="PROGRESS", created_at=3), task("a", state="SUCCESS", created_at=1, seq=2))
    expect(part(page, "task")).to_have_count(3)

    assert button.bounding_box() == before
    assert titles(page) == ["Task b", "Task a", "Task c"]
    page.mouse.move(0, 0)
    expect(part(page, "title").first).to_have_text("Task c")
    assert titles(page) == ["Task c", "Task b", "Task a"]


def test_headings_of_groups_stay_under_the_pointer(page: Page) -> None:
    put(page, "<jobpush-tasks group></jobpush-tasks>")
    send(page, task("a", state="PROGRESS", created_at=2), task("b", state="PROGRESS", created_at=1))
    headings = page.locator("[data-group]")
    expect(headings).to_have_count(1)
    button = page.get_by_role("button", name="Cancel Task b")
    button.hover()
    before = button.evaluate("node => node.getBoundingClientRect().top")

    send(page, task("a", state="SUCCESS", created_at=2, seq=2))
    expect(part(page, "state").first).to_have_text("Done")

    # The row of a title without a button is slightly lower.
    assert abs(button.evaluate("node => node.getBoundingClientRect().top") - before) < 4
    assert headings.count() == 1
    page.mouse.move(0, 0)
    expect(headings).to_have_count(2)


# ---- Announcements ----


def announced(page: Page) -> list[str]:
    return [" ".join(text.split()) for text in page.evaluate("gateway.announcements")]


@with_clock
def test_announcements_are_states_and_quarters_at_most_one_in_five_seconds(page: Page) -> None:
    stop_the_clock(page)
    put(page, "<jobpush-tasks></jobpush-tasks>")
    listen_to_announcements(page)
    send(page, task(state="PENDING", title="Encode"))
    page.clock.run_for(50)

    send(page, task(state="STARTED", seq=2, title="Encode"))
    page.clock.run_for(50)
    until(page, "gateway.announcements.length === 1")
    for percent in range(101):
        send(page, task(state="PROGRESS", percent=percent, seq=10 + percent, title="Encode"))
        page.clock.run_for(40)
    assert announced(page) == ["Encode: Running"]
    page.clock.run_for(5000)
    send(page, task(state="SUCCESS", percent=100, seq=200, title="Encode"))
    page.clock.run_for(5000)

    assert announced(page) == ["Encode: Running", "Encode: Running 100 %", "Encode: Done"]


@with_clock
def test_announcements_of_many_tasks_are_summarised_and_failures_have_their_reason(page: Page) -> None:
    stop_the_clock(page)
    put(page, "<jobpush-tasks></jobpush-tasks>")
    listen_to_announcements(page)
    ids = [str(number) for number in range(20)]
    send(page, *[task(id_, state="PENDING") for id_ in ids])
    page.clock.run_for(50)
    send(page, task("0", state="STARTED", seq=2))
    page.clock.run_for(50)
    until(page, "gateway.announcements.length === 1")

    send(page, *[task(id_, state="SUCCESS", seq=3) for id_ in ids[1:]])
    send(page, task("0", state="FAILURE", seq=3, title="Encode", error="The disk is full"))
    page.clock.run_for(5100)

    assert announced(page)[1:] == ["Encode: Failed: The disk is full. 19 done"]


@with_clock
def test_lost_connection_is_announced(page: Page) -> None:
    stop_the_clock(page)
    put(page, "<jobpush-tasks></jobpush-tasks>")
    page.clock.run_for(20)
    listen_to_announcements(page)

    page.evaluate("gateway.socket.onclose({ code: 1006 })")
    page.clock.run_for(1600)

    until(page, "gateway.announcements.length === 1")
    assert announced(page) == ["Reconnecting…"]


def test_existing_tasks_are_not_announced(page: Page) -> None:
    put(page, "<jobpush-tasks></jobpush-tasks>")
    listen_to_announcements(page)

    send(page, *[task(str(number), state="SUCCESS") for number in range(20)])

    expect(part(page, "task")).to_have_count(20)
    assert_announced(page, [])


def test_live_region_is_polite_and_visually_hidden(page: Page) -> None:
    put(page, "<jobpush-tasks></jobpush-tasks>")

    live = part(page, "live")

    assert live.get_attribute("role") == "status"  # polite by definition
    assert live.evaluate("node => getComputedStyle(node).clipPath") == "inset(50%)"


# ---- Connection ----


@with_clock
def test_lost_connection_is_shown_after_a_delay_until_it_is_restored(page: Page) -> None:
    stop_the_clock(page)
    put(page, "<jobpush-tasks></jobpush-tasks>")
    page.clock.run_for(20)  # a frame
    host = page.locator("jobpush-tasks")
    expect(host).to_have_attribute("data-connection", "connected")

    page.evaluate("gateway.socket.onclose({ code: 1006 })")
    page.clock.run_for(1400)
    expect(part(page, "connection")).to_be_hidden()
    page.clock.run_for(200)
    expect(part(page, "connection")).to_have_text("Reconnecting…")
    expect(host).to_have_attribute("data-connection", "reconnecting")
    page.evaluate("gateway.welcome()")
    page.clock.run_for(20)

    expect(part(page, "connection")).to_be_hidden()
    expect(host).to_have_attribute("data-connection", "connected")


@with_clock
def test_refused_page_shows_the_refusal(page: Page) -> None:
    page.clock.install()
    put(page, "<jobpush-tasks></jobpush-tasks>")

    page.evaluate("gateway.socket.onclose({ code: 4001 })")
    page.clock.run_for(2000)

    expect(part(page, "connection")).to_have_text("Not connected: reload the page")


def test_all_elements_share_one_socket_until_the_last_is_removed(page: Page) -> None:
    put(page, '<jobpush-tasks></jobpush-tasks><jobpush-progress task-id="a"></jobpush-progress>')
    assert page.evaluate("gateway.sockets.length") == 1

    page.evaluate("document.querySelector('jobpush-tasks').remove()")
    next_frame(page)
    assert page.evaluate("gateway.socket.isClosed") is False
    page.evaluate("document.querySelector('jobpush-progress').remove()")

    until(page, "gateway.socket.isClosed")


def test_moved_element_keeps_the_socket_and_its_cards(page: Page) -> None:
    put(page, "<section></section><jobpush-tasks></jobpush-tasks>")
    send(page, task(state="PROGRESS"))
    expect(part(page, "title")).to_be_visible()

    page.evaluate("document.querySelector('section').append(document.querySelector('jobpush-tasks'))")
    send(page, task(state="SUCCESS", seq=2))

    expect(part(page, "state")).to_have_text("Done")
    assert page.evaluate("gateway.sockets.map(({ isClosed }) => isClosed)") == [False]


def test_element_uses_and_releases_the_given_connection(page: Page) -> None:
    page.evaluate(
        """() => {
            window.calls = [];
            const note = (name, result) => (...args) => (calls.push([name, ...args].slice(0, 2)), result);
            window.fake = {
                state: "connected",
                tasks: new Map([["f", { task_id: "f", title: "Fake", state: "PROGRESS", seq: 1 }]]),
                open: () => (calls.push(["open"]), fake),
                close: note("close"),
                cancel: note("cancel", Promise.resolve(true)),
                time: () => Date.now() / 1000,
                on: () => note("off"),
                subscribe: () => ({ on: () => {}, unsubscribe: note("unsubscribe") }),
            };
            const element = document.createElement("jobpush-progress");
            element.connection = fake;
            element.taskId = "f";
            document.querySelector("main").append(element);
        }"""
    )
    expect(part(page, "title")).to_have_text("Fake")

    part(page, "cancel").click()
    expect(part(page, "cancel")).to_have_text("Undo")
    page.evaluate("document.querySelector('jobpush-progress').remove()")

    assert page.evaluate("calls.map(([name]) => name)") == ["open", "cancel", "off", "off", "unsubscribe", "close"]
    assert page.evaluate("gateway.sockets.length") == 0


def test_elements_in_the_page_take_the_shared_connection_that_its_script_makes(page: Page) -> None:
    page.evaluate("document.querySelector('main').innerHTML = '<jobpush-tasks></jobpush-tasks>'")

    page.evaluate(
        """async () => {
            const { connect } = await import("/jobpush/static/jobpush.js");
            window.made = connect({ root: "http://push.example", key: "other", shared: true });
        }"""
    )

    assert page.evaluate("document.querySelector('jobpush-tasks').connection === made")
    assert "push.example/app/other" in page.evaluate("gateway.socket.url")


def test_script_may_be_loaded_twice(page: Page) -> None:
    put(page, "<jobpush-tasks></jobpush-tasks>")

    shares = page.evaluate(
        """async () => {
            const { connect } = await import("/jobpush/static/jobpush.js?again");
            return connect() === document.querySelector("jobpush-tasks").connection;
        }"""
    )

    assert shares is True
    assert page.evaluate("gateway.sockets.length") == 1


@at_noon
@pytest.mark.parametrize(
    ("lang", "state", "detail"),
    [("de-AT", "Wartet", "seit 2 min"), ("ar", "في الانتظار", "منذ دقيقتان"), ("fr", "Waiting", "for 2 min")],
)
def test_language_of_the_page_is_used(page: Page, lang: str, state: str, detail: str) -> None:
    page.evaluate("lang => { document.documentElement.lang = lang }", lang)
    put(page, "<jobpush-tasks></jobpush-tasks>")

    send(page, task(state="PENDING", created_at=NOW - 120))

    expect(part(page, "state")).to_have_text(state)
    expect(part(page, "detail")).to_have_text(detail)


def test_page_can_add_a_language(page: Page) -> None:
    page.evaluate(
        """async () => {
            document.documentElement.lang = "fr";
            const { addLanguage } = await import("/jobpush/static/jobpush.js");
            addLanguage("fr", { SUCCESS: "Terminé" });
        }"""
    )
    put(page, "<jobpush-tasks></jobpush-tasks>")

    send(page, task(state="SUCCESS"))

    expect(part(page, "state")).to_have_text("Terminé")
    expect(part(page, "detail")).to_have_text("100 %")


def test_reason_of_the_gateway_is_shown(page: Page) -> None:
    refusal = {"error": {"code": "not_signed_in", "message": "nobody is signed in"}}
    page.route("**/jobpush/tasks", lambda route: route.fulfill(status=401, json=refusal))
    page.evaluate("document.querySelector('main').innerHTML = '<jobpush-tasks></jobpush-tasks>'")

    established = '{"socket_id": "1.2", "activity_timeout": 120}'
    page.evaluate(f"gateway.send('pusher:connection_established', {established}, undefined)")

    expect(part(page, "connection")).to_have_text("Nobody is signed in")


# ---- Appearance ----


@with_own_page
@pytest.mark.parametrize("missing", ["CSSStyleSheet", "light-dark"])
def test_old_browsers_show_the_elements(page: Page, missing: str) -> None:
    if missing == "CSSStyleSheet":
        page.add_init_script(
            "window.CSSStyleSheet = class { constructor() { throw new TypeError('Illegal constructor') } }"
        )
    else:
        page.add_init_script("CSS.supports = () => false")
    page.reload()
    put(page, "<jobpush-tasks></jobpush-tasks>")

    send(page, task(state="SUCCESS"))

    expect(part(page, "state")).to_have_text("Done")
    page.evaluate("gateway.violations.length = 0")  # the policy blocks the style element that replaces CSSStyleSheet


def test_forced_colours_show_the_bar(page: Page) -> None:
    page.emulate_media(forced_colors="active")
    put(page, "<jobpush-tasks></jobpush-tasks>")

    send(page, task(state="PROGRESS", percent=50))

    track = part(page, "track")
    expect(track).to_be_visible()
    assert track.evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
    tone = part(page, "bar").evaluate("node => getComputedStyle(node, '::-webkit-progress-value').backgroundColor")
    assert tone != track.evaluate("node => getComputedStyle(node).backgroundColor")


def test_amounts_keep_their_order_in_right_to_left_text(page: Page) -> None:
    page.evaluate("document.documentElement.dir = 'rtl'")
    put(page, "<jobpush-tasks></jobpush-tasks>")

    send(page, task(state="PROGRESS", current=3, total=10))

    amount = part(page, "detail").get_by_text("3 / 10")
    expect(amount).to_be_visible()
    assert amount.evaluate("node => getComputedStyle(node).direction") == "ltr"
    assert amount.evaluate("node => getComputedStyle(node).unicodeBidi") == "isolate"


def test_long_list_has_few_nodes_and_no_animation_while_waiting(page: Page) -> None:
    put(page, "<jobpush-tasks></jobpush-tasks>")

    page.evaluate(
        """() => {
            const make = (_, index) => ({ task_id: `t${index}`, state: "PENDING", created_at: index });
            const tasks = Array.from({ length: 10_000 }, make);
            gateway.sendTasks(...tasks);
        }"""
    )
    expect(part(page, "title").first).to_have_text("Task t9999")
    until(page, "document.querySelector('jobpush-tasks').offsetHeight > 500_000")

    assert part(page, "task").count() <= 60
    assert page.evaluate("document.querySelector('jobpush-tasks').shadowRoot.getAnimations().length") == 0
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    expect(part(page, "title").get_by_text("Task t0", exact=True)).to_be_visible()
    assert part(page, "task").count() <= 60


def test_elements_follow_the_color_scheme_of_the_page(page: Page) -> None:
    put(page, "<jobpush-tasks></jobpush-tasks>")
    send(page, task(state="PROGRESS"))
    background = "node => getComputedStyle(node).backgroundColor"
    assert part(page, "task").evaluate(background) == "rgb(255, 255, 255)"

    page.emulate_media(color_scheme="dark")

    assert part(page, "task").evaluate(background) == "rgb(28, 32, 38)"


def test_reduced_motion_stops_the_sweep(page: Page) -> None:
    put(page, "<jobpush-tasks></jobpush-tasks>")
    send(page, task(state="STARTED"))
    animation = "node => getComputedStyle(node).animationName"
    assert part(page, "sweep").evaluate(animation) == "sweep"

    page.emulate_media(reduced_motion="reduce")

    assert part(page, "sweep").evaluate(animation) == "none"


def test_page_can_style_elements_by_properties_and_parts(page: Page) -> None:
    put(page, "<jobpush-tasks></jobpush-tasks>")
    send(page, task(state="FAILURE"))

    page.evaluate(
        """() => {
            const sheet = new CSSStyleSheet();
            sheet.replaceSync("jobpush-tasks { --jobpush-error: rgb(1, 2, 3) } ::part(task failure) { padding: 7px }");
            document.adoptedStyleSheets = [sheet];
        }"""
    )

    assert part(page, "state").evaluate("node => getComputedStyle(node).color") == "rgb(1, 2, 3)"
    assert part(page, "task").evaluate("node => getComputedStyle(node).paddingTop") == "7px"


@pytest.mark.parametrize("width", [320, 360, 800])
def test_elements_fit_the_screen_width(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 640})
    put(page, "<jobpush-tasks></jobpush-tasks>")

    send(
        page,
        task(state="PROGRESS", title="x" * 300, message="y" * 300, current=1_234_567, total=9_876_543, rate=12345.6),
    )

    expect(part(page, "title")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
