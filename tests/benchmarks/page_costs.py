"""
``python -m tests.benchmarks.page_costs``: main-thread cost of long lists, and the delay of a log line.

The page of the lists contains a fake gateway, so only the widget does any work. The main thread is measured by its own
clock (Chrome DevTools Protocol, ``Performance.getMetrics``), so other programs do not count.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, CDPSession, Page

from jobpush.processes.embedded import EmbeddedRedis
from jobpush.processes.ports import free_port
from tests.browsers import chromium
from tests.js.elements import GATEWAY, PageHandler, put, until

from . import machine
from .processes import ROOT
from .update_to_pixel import delays_of, running_application

#: Markers in docs/performance.md; the text between them is generated.
BEGIN, END = "<!-- made by make bench-page: begin -->", "<!-- made by make bench-page: end -->"
#: Log lines, and as many updates; seconds of each measurement; rounds, of which the median counts.
LINES, SECONDS, ROUNDS = 300, 5, 3

#: Sends tasks of one state, created an hour ago.
SEND_MANY = """([count, state]) => {
  const at = (window.sentAt = Date.now() / 1000);
  const make = (_, index) => ({ task_id: `t${index}`, state, percent: 10, created_at: at - 3600 + index / 1000 });
  gateway.sendTasks(...Array.from({ length: count }, make));
}"""
#: Counts frames and the longest pause between two, until `window.frames.stop`.
COUNT_FRAMES = """() => {
  const frames = (window.frameCounts = { count: 0, longest: 0 });
  let before = performance.now();
  const count = (now) => {
    frames.count += 1;
    frames.longest = Math.max(frames.longest, now - before);
    before = now;
    if (!frames.stop) requestAnimationFrame(count);
  };
  requestAnimationFrame(count);
}"""
#: Sends `rate` events a second of `count` running tasks, the visible ones included, in steps of 10 ms.
SEND_EVENTS = """([count, rate]) => {
  let sent = 0;
  const started = performance.now();
  window.sending = setInterval(() => {
    for (const due = ((performance.now() - started) / 1000) * rate; sent < due; sent += 1) {
      const index = (sent * 7919) % count;
      const task = { task_id: `t${index}`, seq: 2 + sent, state: "PROGRESS", percent: (sent * 7) % 100 };
      gateway.sendTasks({ ...task, created_at: sentAt - 3600 + index / 1000, started_at: sentAt - 60 });
    }
  }, 10);
}"""
#: Scrolls 60 pixels with each frame.
SCROLL = "() => { const step = () => { scrollBy(0, 60); requestAnimationFrame(step); }; requestAnimationFrame(step); }"
#: Records for each frame the visible message and log line, if they changed, and the Unix time.
RECORD = """() => {
  window.seen = { message: [], "log-text": [] };
  const record = () => {
    const root = document.querySelector('jobpush-tasks').shadowRoot;
    for (const [part, seen] of Object.entries(window.seen)) {
      const text = [...root.querySelectorAll(`[part=${part}]`)].at(-1)?.textContent;
      if (text && seen.at(-1)?.[1] !== text) seen.push([(performance.timeOrigin + performance.now()) / 1000, text]);
    }
    requestAnimationFrame(record);
  };
  requestAnimationFrame(record);
}"""


def main() -> None:
    """Measure, print, and with ``--write`` put the table into docs/performance.md."""
    facts = machine.describe()
    with ExitStack() as stack:
        browser = stack.enter_context(chromium())
        site = stack.enter_context(served())
        rows = [*lists(browser, site), *logs(browser)]
    lines = ["| figure | bar | here |  |", "| --- | --: | --: | --- |"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    head = (
        f"Commit {facts['commit']}, {facts['date']}, on {facts['processor']} ({facts['cores']} cores; load average "
        f"{facts['load']}), headless Chromium without a GPU; rounds: {ROUNDS}."
    )
    report = "\n".join([head, "", *lines])
    print(report)
    if "--write" in sys.argv:
        path = ROOT / "docs" / "performance.md"
        before, _, rest = path.read_text().partition(BEGIN)
        path.write_text(f"{before}{BEGIN}\n{report}\n{END}{rest.partition(END)[2]}")


@contextmanager
def served() -> Iterator[str]:
    """Serve the page of the tests, and yield its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), PageHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


# -- lists -----------------------------------------------------------------------------------------------


def lists(browser: Browser, site: str) -> Iterator[list[str]]:
    """Yield the rows of long lists."""
    waiting = [cost_of(browser, site, 1_000, "PENDING") for _ in range(ROUNDS)]
    yield share_row("1,000 waiting tasks: main thread", 5, waiting)
    running = [cost_of(browser, site, 1_000, "PROGRESS", SEND_EVENTS, [1_000, 100]) for _ in range(ROUNDS)]
    yield share_row("1,000 running tasks, 100 events/s: main thread", 50, running)
    yield frame_row("the same: frames", running)
    scrolled = [cost_of(browser, site, 10_000, "PENDING", SCROLL) for _ in range(ROUNDS)]
    yield frame_row("scrolling through 10,000 tasks: frames", scrolled)
    yield ["the same: main thread", "–", f"{median(scrolled, 'share'):.1f} % of a core", ""]


def cost_of(
    browser: Browser, site: str, count: int, state: str, script: str = "() => {}", argument: Any = None
) -> dict[str, float]:
    """Return the cost of a list while a script runs: shares of a core in percent, and frames."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.add_init_script(GATEWAY)
    page.goto(site)
    put(page, "<jobpush-tasks header group></jobpush-tasks>")
    page.evaluate(SEND_MANY, [count, state])
    until(page, f"document.querySelector('jobpush-tasks').offsetHeight > {count * 50}")
    session = context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.evaluate(script, argument)
    page.wait_for_timeout(1000)  # the initial rendering is over
    costs = {"frames": 0.0, "longest": 0.0, **main_thread(session, page)}
    if script != "() => {}":  # counting frames requests frames itself
        page.evaluate(COUNT_FRAMES)
        page.wait_for_timeout(SECONDS * 1000)
        counts = page.evaluate("frameCounts")
        costs |= {"frames": counts["count"] / SECONDS, "longest": counts["longest"]}
    context.close()
    return costs


def main_thread(session: CDPSession, page: Page) -> dict[str, float]:
    """Return the share of a core that the main thread uses, in percent."""
    before = read_metrics(session)
    page.wait_for_timeout(SECONDS * 1000)
    after = read_metrics(session)
    names = {"share": "TaskDuration", "layout": "LayoutDuration", "style": "RecalcStyleDuration"}
    return {name: (after[metric] - before[metric]) / SECONDS * 100 for name, metric in names.items()}


def read_metrics(session: CDPSession) -> dict[str, float]:
    """Return the browser's counters for a page."""
    return {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}


def share_row(title: str, bar: float, costs: list[dict[str, float]]) -> list[str]:
    """Return a row with a share of a core."""
    share, layout, style = (median(costs, name) for name in ("share", "layout", "style"))
    text = f"{share:.1f} % of a core (layout {layout:.1f}, style {style:.1f})"
    return [title, f"{bar} %", text, "met" if share < bar else "**missed**"]


def frame_row(title: str, costs: list[dict[str, float]]) -> list[str]:
    """Return a row with frames per second."""
    frames, longest = median(costs, "frames"), median(costs, "longest")
    return [title, "60 /s", f"{frames:.0f} /s, longest {longest:.0f} ms", "met" if frames > 58 else "**missed**"]


def median(costs: list[dict[str, float]], name: str) -> float:
    """Return the median of a figure."""
    return statistics.median(cost[name] for cost in costs)


# -- logs ------------------------------------------------------------------------------------------------


def logs(browser: Browser) -> Iterator[list[str]]:
    """Yield the row that compares lines of a log with updates of the same task."""
    rounds = [line_to_pixel(browser) for _ in range(ROUNDS)]
    update, line = (statistics.median(one[index] for one in rounds) for index in (0, 1))
    text = f"{line:.0f} ms against {update:.0f} ms: {line / update:.2f} ×"
    verdict = "met" if line <= 1.5 * update else "**missed**"
    yield ["`progress.log` to the line in the page, p95, beside an update", "1.5 ×", text, verdict]


def line_to_pixel(browser: Browser) -> tuple[float, float]:
    """Return the 95th percentiles of an update and of a line, in milliseconds."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(EmbeddedRedis(port=free_port()))
        url = stack.enter_context(running_application(server.url))
        page = browser.new_page()
        stack.callback(page.close)
        page.goto(url)
        page.locator("jobpush-tasks").evaluate("element => element.setAttribute('density', 'detailed')")
        os.environ["BENCH_BROKER_URL"] = os.environ["JOBPUSH_REDIS_URL"] = server.url
        # In its own process, because the application reads its settings once.
        times = folder / "times.json"
        send(LINES, times)
        page.locator("[part=menu-button]").click()
        page.locator("[part~=menu-item]").get_by_text("Log").click()
        page.locator("[part=log-note]").wait_for()
        page.evaluate(RECORD)
        times.touch()
        page.locator("[part~=task][data-state=SUCCESS]").wait_for(timeout=120_000)
        page.wait_for_timeout(500)
        seen = page.evaluate("seen")
        delays = []
        for updates, part in zip(json.loads(times.read_text()), ("message", "log-text"), strict=True):
            part_delays = list(delays_of(updates, [(at, int(number)) for at, number in seen[part]]))
            delays.append(statistics.quantiles(part_delays, n=20)[18] * 1000)
    return delays[0], delays[1]


def send(lines: int, times: Path) -> None:
    """Send the task from a new process, which reads the settings of this round."""
    code = f"from tests.benchmarks.servers.pixel_app import *; log.delay(USER, {lines}, {str(times)!r})"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)  # noqa: S603


if __name__ == "__main__":
    main()
