"""The lazily loaded parts of the elements (details, log, header, inbox, toasts), accessibility and layout."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, Route, expect

from tests.waiting import PATIENCE

from .elements import GATEWAY, HERE, next_frame, part, put, send, task, until

AXE = (HERE.parents[1] / "client" / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


#: Returns the pairs of overlapping parts in a card, and the parts that exceed their card.
OVERLAPS = """() => {
  const found = [];
  for (const card of document.querySelector('jobpush-tasks').shadowRoot.querySelectorAll('[part~=task]')) {
    const names = ['icon', 'title', 'state', 'actions', 'track', 'message', 'error', 'detail', 'steps', 'result'];
    const outer = card.getBoundingClientRect();
    const boxes = names.map((name) => [name, card.querySelector(`[part~=${name}]`)?.getBoundingClientRect()])
      .filter(([, box]) => box?.width && box.height);
    for (const [name, box] of boxes) if (box.left < outer.left || box.right > outer.right) found.push([name, 'card']);
    for (const [index, [name, a]] of boxes.entries()) {
      for (const [other, b] of boxes.slice(index + 1)) {
        const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (width > 1 && height > 1) found.push([card.ariaLabel, name, other]);
      }
    }
  }
  return found;
}"""


def send_log(page: Page, *lines: dict[str, Any]) -> None:
    page.evaluate("lines => lines.forEach((line) => gateway.send('jobpush:log', line))", list(lines))


def line(number: int, **fields: Any) -> dict[str, Any]:
    return {"id": f"{number}-0", "task_id": "a", "level": "info", "message": f"line {number}", "at": number, **fields}


def open_menu(page: Page, item: str) -> None:
    page.get_by_role("button", name="Actions: Task a").click()
    page.get_by_role("menu").get_by_text(item).click()


# ---- Results and steps ----


@pytest.mark.parametrize(
    ("data", "href"),
    [
        ({"url": "/media/1.mp4"}, "/media/1.mp4"),
        ({"result": {"type": "link", "url": "https://example.com/x", "label": "Report"}}, "https://example.com/x"),
        ({"result": {"type": "file", "url": "./report.pdf"}}, "/report.pdf"),
    ],
)
def test_result_is_a_link(page: Page, data: dict[str, Any], href: str) -> None:
    put(page, "<jobpush-tasks></jobpush-tasks>")

    send(page, task(state="SUCCESS", data=data))

    link = part(page, "result-link")
    expect(link).to_be_visible()
    assert link.evaluate("node => node.href").endswith(href)


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", " javascript:alert(1)", "data:text/html,x", "x y", 7, None, "blob:x"]
)
def test_result_with_an_unsafe_url_is_not_a_link(page: Page, url: Any) -> None:
    put(page, "<jobpush-tasks></jobpush-tasks>")

    with page.expect_response("**/details-*.js"):
        send(page, task(state="SUCCESS", data={"url": url, "result": {"type": "link", "url": url}}))
    next_frame(page)

    assert page.locator("a").count() == 0


def test_table_is_shown_as_text(page: Page) -> None:
    put(page, "<jobpush-tasks></jobpush-tasks>")

    rows = [["<b>Region</b>", "Orders"], ["North", 120]]
    send(page, task(state="SUCCESS", data={"result": {"type": "table", "rows": rows}}))

    expect(part(page, "result-table").locator("td")).to_have_text(["<b>Region</b>", "Orders", "North", "120"])


def test_stages_are_steps(page: Page) -> None:
    put(page, "<jobpush-tasks></jobpush-tasks>")

    send(page, task(state="PROGRESS", data={"stage": "encode", "stages": ["probe", "encode", "thumbnail"]}))

    expect(part(page, "step")).to_have_text(["probe", "encode", "thumbnail"])
    expect(part(page, "current")).to_have_attribute("aria-current", "step")


# ---- Run again ----


def test_failed_task_can_be_run_again(page: Page) -> None:
    put(page, "<jobpush-tasks rerun></jobpush-tasks>")
    send(page, task(state="FAILURE"))
    page.route("**/tasks/a/rerun", lambda route: route.fulfill(status=403, json={"error": {"code": "forbidden"}}))

    with page.expect_request("**/jobpush/tasks/a/rerun") as request:
        page.get_by_role("button", name="Run again: Task a").click()

    assert request.value.method == "POST"
    expect(part(page, "error")).to_have_text("Could not be started again")


# ---- Log ----


def test_log_is_replayed_and_followed_without_gaps_or_duplicates(page: Page) -> None:
    kept = [line(number) for number in range(1, 4)]

    def answer(route: Route) -> None:
        since = parse_qs(urlsplit(route.request.url).query).get("since", ["0-0"])[0]
        lines = [entry for entry in kept if int(entry["id"].split("-")[0]) > int(since.split("-")[0])]
        route.fulfill(json={"lines": lines[:2], "lost": 5})

    page.route("**/tasks/a/log*", answer)
    put(page, '<jobpush-tasks density="detailed"></jobpush-tasks>')
    send(page, task(state="PROGRESS"))

    open_menu(page, "Log")
    texts = part(page, "log-text")
    expect(texts).to_have_text(["line 1", "line 2", "line 3"])
    expect(part(page, "log-note")).to_have_text("5 lines left out")
    send_log(page, line(3), line(4), line(5, task_id="other"))
    expect(texts).to_have_text(["line 1", "line 2", "line 3", "line 4"])
    kept.extend([line(4), line(5)])
    page.evaluate("gateway.socket.onclose({ code: 4200 })")
    until(page, "gateway.sockets.length === 2")
    page.evaluate("gateway.welcome()")

    expect(texts).to_have_text([f"line {number}" for number in range(1, 6)])


def test_log_is_filtered_by_level_and_text_and_shows_no_markup(page: Page) -> None:
    lines = [line(1, level="debug"), line(2, level="error", message="<b>\u202edisk\x07"), line(3)]
    page.route(
        "**/tasks/a/log*",
        lambda route: route.fulfill(json={"lines": lines if "since" not in route.request.url else []}),
    )
    put(page, '<jobpush-tasks density="detailed"></jobpush-tasks>')
    send(page, task(state="PROGRESS"))
    open_menu(page, "Log")
    expect(part(page, "log-line")).to_have_count(3)

    part(page, "log-level").select_option("warning")
    expect(part(page, "log-text")).to_have_text(["<b>\\u202edisk\\u0007"])
    part(page, "log-level").select_option("debug")
    part(page, "log-search").fill("LINE 3")

    expect(part(page, "log-text")).to_have_text(["line 3"])


def test_log_is_copied_without_a_clipboard_for_scripts(page: Page) -> None:
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined, configurable: true })")
    page.evaluate("document.addEventListener('copy', ({ target }) => { window.copied = target.value })")
    page.route(
        "**/tasks/a/log*",
        lambda route: route.fulfill(json={"lines": [line(1)] if "since" not in route.request.url else []}),
    )
    put(page, '<jobpush-tasks density="detailed"></jobpush-tasks>')
    send(page, task(state="PROGRESS"))
    open_menu(page, "Log")
    expect(part(page, "log-text")).to_have_text(["line 1"])

    part(page, "log-copy").click()

    until(page, "window.copied?.includes('line 1')")
    expect(part(page, "log-copy")).to_have_text("Copied")


def test_long_log_has_few_nodes(page: Page) -> None:
    page.route("**/tasks/a/log*", lambda route: route.fulfill(json={"lines": []}))
    put(page, '<jobpush-tasks density="detailed"></jobpush-tasks>')
    send(page, task(state="PROGRESS"))
    open_menu(page, "Log")
    expect(part(page, "log-note")).to_have_text("No lines yet")

    page.evaluate(
        """() => {
            const line = (number) => ({ id: `${number}-0`, task_id: "a", level: "info", message: `line ${number}` });
            for (let number = 1; number <= 50_100; number++) gateway.send("jobpush:log", line(number));
        }"""
    )

    expect(part(page, "log-text").last).to_have_text("line 50100")
    assert part(page, "log-line").count() < 60
    expect(part(page, "log-note")).to_have_text("100 lines left out")


# ---- Workflows ----


def test_workflow_unfolds_to_its_members_failures_first(page: Page) -> None:
    members = [task("m1", state="SUCCESS"), task("m2", state="FAILURE")]
    page.route("**/tasks/a/children", lambda route: route.fulfill(json={"children": members}))
    put(page, "<jobpush-tasks></jobpush-tasks>")
    send(page, task(state="PROGRESS", data={"children": {"total": 2}}))

    open_menu(page, "Members")

    expect(part(page, "member")).to_have_count(2)
    assert part(page, "member").evaluate_all("nodes => nodes.map((node) => node.taskId)") == ["m2", "m1"]


# ---- Attributes that are set later ----


@pytest.mark.parametrize("tag", ["jobpush-tasks", "jobpush-progress"])
def test_density_that_is_set_later_changes_the_cards(page: Page, tag: str) -> None:
    put(page, f'<{tag} task-id="a"></{tag}>')
    send(page, task(state="SUCCESS"))
    element = page.locator(tag)

    element.evaluate("element => element.setAttribute('density', 'compact')")
    expect(part(page, "task")).to_have_css("padding-top", "6px")

    element.evaluate("element => element.setAttribute('density', 'detailed')")
    expect(part(page, "menu-button")).to_be_visible()


@pytest.mark.parametrize(("attribute", "item"), [("rerun", "Run again"), ("dismiss", "Dismiss")])
def test_attribute_that_is_set_later_adds_its_action(page: Page, attribute: str, item: str) -> None:
    put(page, "<jobpush-tasks></jobpush-tasks>")
    send(page, task(state="SUCCESS", seq=0))  # without a log, so that the menu has no other action
    expect(part(page, "task")).to_be_visible()

    page.locator("jobpush-tasks").evaluate("(element, name) => element.setAttribute(name, '')", attribute)
    part(page, "menu-button").click()

    expect(page.get_by_role("menu").get_by_text(item)).to_be_visible()


# ---- The list ----


def test_header_counts_filters_dismisses_and_shows_more(page: Page) -> None:
    put(page, '<jobpush-tasks header group limit="5"></jobpush-tasks>')
    send(page, *[task(str(number), state="PROGRESS", percent=50) for number in range(6)])
    send(page, task("x", state="FAILURE"), task("y", state="SUCCESS"))

    expect(part(page, "summary")).to_have_text("6 running, 1 failed, 1 done")
    expect(part(page, "task")).to_have_count(5)
    page.get_by_role("button", name="Show 3 more").click()
    expect(part(page, "task")).to_have_count(8)
    expect(part(page, "overall")).to_have_js_property("value", 62.5)
    page.get_by_role("button", name="Clear finished").click()
    expect(part(page, "task")).to_have_count(6)
    page.get_by_role("searchbox", name="Filter tasks").fill("task 3")

    expect(part(page, "title")).to_have_text(["Task 3"])


# ---- Inbox ----


def test_inbox_counts_shows_and_marks(page: Page) -> None:
    items = [
        {"id": "2-0", "title": "Album ready", "url": "/album", "at": 1_767_268_800, "seen": False, "read": False},
        {"id": "1-0", "title": "Old", "url": "javascript:alert(1)", "at": 1, "seen": True, "read": False},
    ]
    page.route("**/jobpush/inbox", lambda route: route.fulfill(json={"items": items}))

    def mark(route: Route) -> None:
        marked = parse_qs(route.request.post_data or "")
        for item in items:
            item["seen"] = True
            item["read"] = item["read"] or item["id"] in marked.get("ids", [])
        route.fulfill(json={})

    page.route("**/jobpush/inbox/read", mark)
    html = "<jobpush-notifications></jobpush-notifications><jobpush-badge></jobpush-badge>"
    page.evaluate("html => { document.querySelector('main').innerHTML = html }", html)
    until(page, "gateway.sockets.length === 1")
    page.evaluate("gateway.welcome()")
    expect(page.locator("jobpush-badge")).to_have_text("2")

    with page.expect_request("**/inbox/read") as seen:
        page.get_by_role("button", name="Notifications: 1").click()
    assert parse_qs(seen.value.post_data or "") == {"state": ["seen"]}
    expect(page.get_by_role("link", name="Album ready")).to_be_visible()
    assert page.get_by_role("link").count() == 1
    with page.expect_request("**/inbox/read") as read:
        page.get_by_role("button", name="Mark as read: Old").click()

    assert parse_qs(read.value.post_data or "") == {"state": ["read"], "ids": ["1-0"]}
    expect(page.locator("jobpush-badge")).to_have_text("1")


def test_nothing_moves_under_the_pointer_in_the_inbox(page: Page) -> None:
    items = [{"id": f"{name}-0", "title": f"Note {name}", "at": 1, "seen": True, "read": False} for name in (2, 1)]
    page.route("**/jobpush/inbox", lambda route: route.fulfill(json={"items": items}))
    page.route("**/jobpush/inbox/read", lambda route: route.fulfill(json={}))
    page.evaluate("document.querySelector('main').innerHTML = '<jobpush-notifications></jobpush-notifications>'")
    until(page, "gateway.sockets.length === 1")
    page.evaluate("gateway.welcome()")
    page.get_by_role("button", name="Notifications").click()
    titles = part(page, "item-title")
    expect(titles).to_have_text(["Note 2", "Note 1"])
    page.get_by_role("button", name="Mark as read: Note 1").hover()
    page.mouse.down()

    items.insert(0, {"id": "3-0", "title": "Note 3", "at": 2, "seen": True, "read": False})
    page.evaluate("gateway.send('jobpush:inbox', {})")

    expect(titles).to_have_text(["Note 2", "Note 1", "Note 3"])
    with page.expect_request("**/inbox/read") as read:
        page.mouse.up()
    assert parse_qs(read.value.post_data or "")["ids"] == ["1-0"]
    page.mouse.move(0, 0)
    expect(titles).to_have_text(["Note 3", "Note 2", "Note 1"])


def test_answer_that_is_older_than_a_mark_does_not_undo_it(page: Page) -> None:
    unread = {"id": "1-0", "title": "Old", "at": 1, "seen": True, "read": False}
    requests: list[Route] = []
    page.route("**/jobpush/inbox", lambda route: requests.append(route))
    page.route("**/jobpush/inbox/read", lambda route: route.fulfill(json={}))

    def next_request() -> Route:
        deadline = time.monotonic() + PATIENCE
        while not requests:
            assert time.monotonic() < deadline, "timed out waiting for a request"
            page.wait_for_timeout(10)
        return requests.pop()

    html = "<jobpush-notifications></jobpush-notifications><jobpush-badge></jobpush-badge>"
    page.evaluate("html => { document.querySelector('main').innerHTML = html }", html)
    until(page, "gateway.sockets.length === 1")
    page.evaluate("gateway.welcome()")
    next_request().fulfill(json={"items": [unread]})
    expect(page.locator("jobpush-badge")).to_have_text("1")

    older = next_request()
    page.get_by_role("button", name="Notifications").click()
    page.get_by_role("button", name="Mark as read: Old").click()
    older.fulfill(json={"items": [unread]})

    newer = next_request()
    expect(page.locator("jobpush-badge")).to_have_text("")
    newer.fulfill(json={"items": [unread | {"read": True}]})


def test_mark_that_the_server_has_not_stored_yet_is_not_undone(page: Page) -> None:
    items = [{"id": "1-0", "title": "Old", "at": 1, "seen": True, "read": False}]
    marks: list[Route] = []
    page.route("**/jobpush/inbox", lambda route: route.fulfill(json={"items": items}))
    page.route("**/jobpush/inbox/read", lambda route: marks.append(route))
    html = "<jobpush-notifications></jobpush-notifications><jobpush-badge></jobpush-badge>"
    page.evaluate("html => { document.querySelector('main').innerHTML = html }", html)
    until(page, "gateway.sockets.length === 1")
    page.evaluate("gateway.welcome()")
    expect(page.locator("jobpush-badge")).to_have_text("1")

    page.get_by_role("button", name="Notifications").click()
    page.get_by_role("button", name="Mark as read: Old").click()
    with page.expect_response("**/jobpush/inbox"):
        page.evaluate("gateway.send('jobpush:inbox', { id: '1-0' })")
    next_frame(page)
    expect(page.locator("jobpush-badge")).to_have_text("")

    items[0]["read"] = True
    with page.expect_response("**/jobpush/inbox"):
        for mark in marks:
            mark.fulfill(json={})
    expect(page.locator("jobpush-badge")).to_have_text("")


def test_a_burst_of_notifications_is_loaded_together(page: Page) -> None:
    requests: list[str] = []

    def answer(route: Route) -> None:
        requests.append(route.request.url)
        item = {"id": f"{len(requests)}-0", "title": "Album", "seen": False, "read": False}
        route.fulfill(json={"items": [item] * len(requests)})

    page.route("**/jobpush/inbox", answer)
    page.evaluate("document.querySelector('main').innerHTML = '<jobpush-badge></jobpush-badge>'")
    until(page, "gateway.sockets.length === 1")
    page.evaluate("gateway.welcome()")
    expect(page.locator("jobpush-badge")).not_to_have_text("")

    page.evaluate("for (let number = 0; number < 1000; number++) gateway.send('jobpush:inbox', { id: `${number}-0` })")

    expect(page.locator("jobpush-badge")).to_have_text(str(len(requests) + 1))
    assert len(requests) <= 4


# ---- Attention ----


def test_one_end_gets_one_toast_in_one_tab(page: Page) -> None:
    second = page.context.new_page()
    second.add_init_script(GATEWAY)
    second.goto(page.url)
    for tab in (page, second):
        put(tab, '<jobpush-tasks attention="toast title"></jobpush-tasks>')
        send(tab, task(state="PROGRESS", percent=40))
        expect(part(tab, "title")).to_be_visible()
        until(tab, "performance.getEntriesByType('resource').some(({ name }) => name.includes('/attention-'))")
        send(tab, task(state="PROGRESS", percent=50, seq=2))
        until(tab, "document.title === '(50 %) Tasks'")

    for tab in (page, second):
        send(tab, task(state="FAILURE", error="The disk is full", seq=3))
    for tab in (page, second):
        tab.locator("jobpush-tasks").get_by_text("The disk is full").wait_for()

    def toasts() -> int:
        return sum(part(tab, "toast").count() for tab in (page, second))

    until(page, "document.title === 'Tasks'")
    for _ in range(500):
        if toasts():
            break
        page.wait_for_timeout(10)
    assert toasts() == 1
    second.close()  # closed last: it holds the claim for this toast


#: Replaces the browser's notifications.
NOTIFICATION = """([permission, hasFocus]) => {
  window.shown = [];
  window.asked = 0;
  document.hasFocus = () => hasFocus;
  window.Notification = class {
    static permission = permission;
    static requestPermission() { asked += 1; }
    constructor(title, { body, tag }) { shown.push([title, body, tag]); }
  };
}"""


@pytest.mark.parametrize(
    ("permission", "has_focus", "is_desktop"),
    [("granted", False, True), ("granted", True, False), ("default", False, False), ("denied", False, False)],
)
def test_end_in_the_background_is_a_desktop_notification_where_it_is_allowed(
    page: Page, permission: str, has_focus: bool, is_desktop: bool
) -> None:
    page.evaluate(NOTIFICATION, [permission, has_focus])
    page.evaluate("document.documentElement.lang = 'de'")
    put(page, '<jobpush-tasks attention="title toast desktop"></jobpush-tasks>')
    for percent in range(100):
        send(page, task(state="PROGRESS", percent=percent, seq=percent + 1))
        next_frame(page)
        if page.title() != "Tasks":  # the attention module is loaded
            break

    send(page, task(state="FAILURE", error="The task took too long", error_code="too_long", seq=200))

    reason = "Fehlgeschlagen: Die Aufgabe dauerte zu lange und wurde angehalten"
    if is_desktop:
        until(page, "shown.length > 0")
        assert page.evaluate("shown") == [["Task a", reason, "a"]]
        assert part(page, "toast").count() == 0
    else:
        expect(part(page, "toast-state")).to_have_text(reason)
        assert page.evaluate("shown") == []
    assert page.evaluate("asked") == 0  # permission is only requested on a click


def test_desktop_notification_that_the_browser_refuses_becomes_a_toast(page: Page) -> None:
    page.evaluate(NOTIFICATION, ["granted", False])
    page.evaluate("() => { Notification = class { static permission = 'granted'; constructor() { throw Error() } } }")
    put(page, '<jobpush-tasks attention="title toast desktop"></jobpush-tasks>')
    send(page, task(state="PROGRESS", percent=1))
    until(page, "performance.getEntriesByType('resource').some(({ name }) => name.includes('/attention-'))")

    send(page, task(state="FAILURE", seq=2))

    expect(part(page, "toast-state")).to_be_visible()


def test_toast_moves_no_other_under_the_pointer(page: Page) -> None:
    page.evaluate(NOTIFICATION, ["default", True])
    put(page, '<jobpush-tasks attention="toast"></jobpush-tasks>')
    names = "abcde"
    send(page, *(task(name, state="PROGRESS") for name in names))
    until(page, "performance.getEntriesByType('resource').some(({ name }) => name.includes('/attention-'))")
    for name in names[:3]:
        send(page, task(name, state="SUCCESS", seq=2))
        expect(part(page, "toast").filter(has_text=f"Task {name}")).to_be_visible()
    close = part(page, "toast-close")
    close.nth(1).hover()

    for name in names[3:]:
        send(page, task(name, state="SUCCESS", seq=2))
        expect(part(page, "toast").filter(has_text=f"Task {name}")).to_be_visible()

    assert part(part(page, "toast"), "title").all_text_contents() == ["Task e", "Task b", "Task c"]


# ---- Accessibility ----


@pytest.mark.parametrize("theme", ["light", "dark", "forced", "arabic"])
def test_axe_finds_nothing_in_any_state(page: Page, theme: str) -> None:
    page.emulate_media(
        color_scheme="dark" if theme == "dark" else "light", forced_colors="active" if theme == "forced" else "none"
    )
    if theme == "arabic":
        page.evaluate("Object.assign(document.documentElement, { lang: 'ar', dir: 'rtl' })")
    page.route("**/jobpush/inbox", lambda route: route.fulfill(json={"items": [{"id": "1-0", "title": "Album ready"}]}))
    put(
        page,
        "<h1>Tasks</h1><jobpush-notifications></jobpush-notifications>"
        "<jobpush-tasks header group rerun attention='toast'></jobpush-tasks>",
    )
    page.evaluate("async () => gateway.sendTasks(...(await import('/static/states.js')).states)")
    expect(part(page, "step").first).to_be_visible()
    expect(part(page, "summary")).to_be_visible()

    # Open a log and the inbox, and show a toast for a task that fails while the page is open.
    page.route("**/tasks/*/log", lambda route: route.fulfill(json={"lines": [line(1), line(2, level="error")]}))
    page.locator("[part=menu-button]").first.click()
    page.locator("[part~=menu-item]").first.click()
    expect(part(page, "log-text")).to_have_count(2)
    part(page, "bell").click()
    send(page, task("state-1", seq=9, state="FAILURE", error="The file is broken"))
    toast = part(page, "toast").filter(has_text="The file is broken")
    toast.evaluate("node => Promise.all(node.getAnimations().map(({ finished }) => finished))")

    page.evaluate(AXE + "; 0")
    found = page.evaluate("axe.run().then(({ violations }) => violations)")

    assert [(rule["id"], [node["html"][:120] for node in rule["nodes"]]) for rule in found] == [], json.dumps(found)[
        :2000
    ]


# ---- Layout ----


@pytest.mark.parametrize(
    "title",
    [
        "x" * 10_000,
        "word " * 2_000,
        "\u202e\u202e" + "txt.exe " * 1_250,
        "\u2067\u2067عنوان " * 1_250,
        "👩‍👩‍👧🏳️‍🌈" * 900,
        "\n" * 10_000,
    ],
)
def test_a_title_of_any_text_has_two_lines_and_changes_nothing_beside_it(page: Page, title: str) -> None:
    put(page, "<jobpush-tasks header></jobpush-tasks>")
    plain, odd = task("plain", state="PROGRESS", percent=40), task("odd", state="PROGRESS", percent=40, title=title)
    send(page, plain, {**odd, "created_at": 2})
    expect(part(page, "task")).to_have_count(2)
    expect(part(page, "summary")).to_be_visible()
    next_frame(page)

    assert page.evaluate("document.documentElement.scrollWidth") <= 800
    assert page.evaluate(OVERLAPS) == []
    odd_box, plain_box = (part(page, "task").nth(index).bounding_box() for index in (0, 1))
    assert odd_box and plain_box and odd_box["height"] <= plain_box["height"] + 30
    states = part(page, "state").evaluate_all("nodes => nodes.map((node) => node.getBoundingClientRect().right)")
    assert states[0] == states[1]
    shown = part(page, "title").first.text_content() or ""
    assert "\u200d…" not in shown and "…\u200d" not in shown  # no half of an emoji


@pytest.mark.parametrize("direction", ["ltr", "rtl"])
def test_every_state_fits_into_320_pixels(page: Page, direction: str) -> None:
    """This is a window of 1280 pixels at a zoom of 400 %: nothing scrolls horizontally or overlaps."""
    page.set_viewport_size({"width": 320, "height": 640})
    page.evaluate(f"document.documentElement.dir = '{direction}'")
    put(page, "<jobpush-tasks header group rerun></jobpush-tasks>")
    page.evaluate("async () => gateway.sendTasks(...(await import('/static/states.js')).states)")
    expect(part(page, "summary")).to_be_visible()
    expect(part(page, "step").first).to_be_visible()
    next_frame(page)

    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    assert page.evaluate(OVERLAPS) == []


@pytest.mark.parametrize("direction", ["ltr", "rtl"])
def test_inbox_stays_inside_the_window(page: Page, direction: str) -> None:
    page.set_viewport_size({"width": 320, "height": 600})
    page.route("**/inbox", lambda route: route.fulfill(json={"items": []}))
    page.evaluate(f"document.documentElement.dir = '{direction}'")
    for place in ("start", "end"):
        page.evaluate(
            """(place) => {
              document.querySelector('main').innerHTML = '<jobpush-notifications></jobpush-notifications>';
              document.querySelector('main').style.textAlign = place;
            }""",
            place,
        )
        part(page, "bell").click()

        box = part(page, "panel").bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 320


def test_long_line_of_a_log_does_not_widen_the_page(page: Page) -> None:
    page.route("**/tasks/a/log*", lambda route: route.fulfill(json={"lines": [line(1, message="x" * 2000)]}))
    put(page, '<jobpush-tasks density="detailed"></jobpush-tasks>')
    page.evaluate("document.querySelector('main').style.display = 'grid'")
    send(page, task(state="PROGRESS"))
    open_menu(page, "Log")
    expect(part(page, "log-text")).to_have_count(1)

    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_titles_in_the_other_direction_start_at_the_icon(page: Page) -> None:
    put(page, "<jobpush-tasks></jobpush-tasks>")
    page.evaluate("document.documentElement.dir = 'rtl'")
    send(page, task(state="FAILURE", error="The file is not a video"))

    for name, beside in (("title", "icon"), ("error", "track")):
        gap = part(page, name).evaluate(
            """(node, beside) => {
              const range = document.createRange();
              range.selectNodeContents(node);
              const other = node.closest('[part~=task]').querySelector(`[part=${beside}]`).getBoundingClientRect();
              return (beside === 'icon' ? other.left : other.right) - range.getBoundingClientRect().right;
            }""",
            beside,
        )
        assert 0 <= gap < 16


def test_page_can_handle_rerun_itself(page: Page) -> None:
    put(page, "<jobpush-tasks rerun></jobpush-tasks>")
    send(page, task(state="FAILURE"))
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.evaluate("""document.querySelector('jobpush-tasks').addEventListener('jobpush-progress-rerun', (event) => {
      event.preventDefault();
      document.title = event.detail.task_id;
    })""")

    page.get_by_role("button", name="Run again: Task a").click()

    until(page, "document.title === 'a'")
    assert not any("rerun" in url for url in requests)
