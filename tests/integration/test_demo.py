"""The main use case in a real browser: upload a video, follow its encoding, play it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.effort import thorough

from .conftest import FragileDemo, Visitor, running_demo

MakeClip = Callable[..., Path]
Visit = Callable[..., Visitor]

#: Records the value and the state of every bar in each animation frame.
RECORD_BARS = """() => {
  window.bars = [];
  const note = () => {
    for (const card of document.querySelector('jobpush-tasks').shadowRoot.querySelectorAll('[part~=task]')) {
      const bar = card.querySelector('progress');
      window.bars.push([card.dataset.state, bar.hasAttribute('value') ? bar.value : null]);
    }
    requestAnimationFrame(note);
  };
  requestAnimationFrame(note);
}"""

#: Records of each success whether it happened before the page was opened.
RECORD_SUCCESSES = """
window.replayed = [];
addEventListener('jobpush-progress-success', ({ detail }) => window.replayed.push(detail.replayed));
"""


def card(page: Page, title: str) -> Locator:
    return page.get_by_role("group", name=title)


def expect_state(page: Page, title: str, state: str) -> None:
    """Wait until the card of a task shows the state."""
    expect(card(page, title)).to_have_attribute("data-state", state)


def expect_encoding(page: Page, title: str) -> None:
    """Wait until the worker encodes the video; before that, the bar shows the upload, which a reload would abort."""
    expect(card(page, title).locator("[part=message]")).to_have_text("encoding")


def video(page: Page, name: str) -> Locator:
    return page.locator("article.video", has=page.get_by_role("heading", name=name))


def plays(page: Page, name: str) -> bool:
    """Return whether the browser decodes the film: its playback position advances."""
    player = video(page, name).locator("video")
    script = """async (player) => {
      player.muted = true;
      await player.play();
      await new Promise((resolve) => player.addEventListener('timeupdate', () => player.currentTime > 0 && resolve()));
      return player.videoWidth > 0 && player.error === null;
    }"""
    return bool(player.evaluate(script))


def test_video_is_uploaded_encoded_live_and_played(demo_url: str, visit: Visit, make_clip: MakeClip) -> None:
    ada = visit(demo_url, "Ada")
    ada.page.evaluate(RECORD_BARS)

    ada.upload(make_clip("cat.mov", seconds=20, size="640x360"))

    expect(video(ada.page, "cat.mp4")).to_be_visible()
    bars: list[tuple[str, Any]] = ada.page.evaluate("window.bars")
    values = [value for _, value in bars if value is not None]
    assert values == sorted(values), "a bar moved back"
    assert len(set(values)) > 5, "a bar did not move"
    assert values[-1] == 100
    assert bars[-1][0] == "SUCCESS"
    assert plays(ada.page, "cat.mp4")
    ada.page.add_init_script(RECORD_SUCCESSES)
    ada.page.reload()
    expect_state(ada.page, "cat.mov", "SUCCESS")
    assert ada.page.evaluate("window.replayed") == [True]
    assert ada.errors == []


def test_uploads_are_private_to_their_user(demo_url: str, visit: Visit, make_clip: MakeClip) -> None:
    bob, eve = visit(demo_url, "Bob"), visit(demo_url, "Eve")

    bob.upload(make_clip("secret.mov", seconds=2))

    expect(video(bob.page, "secret.mp4")).to_be_visible()
    expect(card(eve.page, "secret.mov")).to_have_count(0)
    expect(eve.page.locator("article.video")).to_have_count(0)
    film = video(bob.page, "secret.mp4").locator("video").get_attribute("src")
    assert film
    assert bob.context.request.get(f"{demo_url.rstrip('/')}{film}").status == 200
    assert eve.context.request.get(f"{demo_url.rstrip('/')}{film}").status == 404


def test_reload_and_second_tab_are_up_to_date_at_once(demo_url: str, visit: Visit, make_clip: MakeClip) -> None:
    cy = visit(demo_url, "Cy")
    cy.upload(make_clip("long.mov", seconds=120, size="1280x720"))
    expect_encoding(cy.page, "long.mov")

    cy.page.reload()
    second = cy.open()

    expect_encoding(cy.page, "long.mov")
    expect_encoding(second, "long.mov")
    second.get_by_role("button", name="Cancel long.mov").click()
    expect_state(second, "long.mov", "REVOKED")
    expect_state(cy.page, "long.mov", "REVOKED")
    expect(cy.page.locator("article.video")).to_have_count(0)


@thorough
def test_another_video_can_follow_a_cancelled_one(demo_url: str, visit: Visit, make_clip: MakeClip) -> None:
    dan = visit(demo_url, "Dan")
    dan.upload(make_clip("long.mov", seconds=120, size="1280x720"))
    expect_encoding(dan.page, "long.mov")

    dan.page.get_by_role("button", name="Cancel long.mov").click()

    expect_state(dan.page, "long.mov", "REVOKED")
    dan.upload(make_clip("short.mov", seconds=1))
    expect(video(dan.page, "short.mp4")).to_be_visible()


def test_cancel_ends_the_task_even_before_the_upload_response(demo_url: str, visit: Visit, make_clip: MakeClip) -> None:
    flo = visit(demo_url, "Flo")
    flo.page.evaluate("Object.defineProperty(XMLHttpRequest.prototype, 'onload', { set() {} })")  # ignore it
    flo.upload(make_clip("long.mov", seconds=120, size="1280x720"))
    expect_encoding(flo.page, "long.mov")

    flo.page.get_by_role("button", name="Cancel long.mov").click()

    expect_state(flo.page, "long.mov", "REVOKED")


@thorough
def test_page_of_a_sleeping_laptop_is_up_to_date_after_waking(demo_url: str, visit: Visit, make_clip: MakeClip) -> None:
    kim = visit(demo_url, "Kim")
    kim.upload(make_clip("long.mov", seconds=120, size="1280x720"))
    expect_encoding(kim.page, "long.mov")
    lid, other = kim.context.new_cdp_session(kim.page), kim.open()

    lid.send("Page.setWebLifecycleState", {"state": "frozen"})
    other.get_by_role("button", name="Cancel long.mov").click()
    expect_state(other, "long.mov", "REVOKED")
    lid.send("Page.setWebLifecycleState", {"state": "active"})

    expect_state(kim.page, "long.mov", "REVOKED")
    assert kim.errors == []


@thorough
def test_sample_can_be_tried_without_an_own_video(demo_url: str, visit: Visit) -> None:
    liz = visit(demo_url, "Liz")

    liz.page.get_by_role("button", name="Try a sample").click()

    expect_encoding(liz.page, "sample.mp4")
    liz.page.get_by_role("button", name="Cancel sample.mp4").click()
    expect_state(liz.page, "sample.mp4", "REVOKED")


#: Drops files with the given names and sizes on an element.
DROP = """(target, files) => {
  const dataTransfer = new DataTransfer();
  for (const [name, size] of files) dataTransfer.items.add(new File([new Uint8Array(size)], name));
  target.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
}"""


def drop(page: Page, files: dict[str, int]) -> None:
    page.wait_for_load_state()  # the script that handles dropped files has run
    page.locator("#drop").evaluate(DROP, list(files.items()))


@thorough
def test_many_files_can_be_dropped_and_those_beyond_the_limits_are_reported(visit: Visit) -> None:
    with running_demo(JOBPUSH_DEMO_MAX_BYTES=str(1024**2), JOBPUSH_DEMO_MAX_VIDEOS="3") as url:
        mo = visit(url, "Mo")

        drop(mo.page, {"large.mov": 1024**2 + 1, "empty.mov": 0, "noise.mov": 5000, "fourth.mov": 5000})

        for name, sentence in {
            "large.mov": "This file is too large: 1 MB are allowed.",
            "empty.mov": "This file is empty.",
            "noise.mov": "This file is not a video that can be read.",
        }.items():
            expect(card(mo.page, name).locator("[part=error]")).to_contain_text(sentence)
        expect(mo.page.locator("#problems")).to_contain_text(
            "1 of 4 files were not taken: the limit is 3 videos. Delete some first."
        )
        expect(card(mo.page, "fourth.mov")).to_have_count(0)
        assert mo.errors == []
        mo.context.close()


@pytest.mark.parametrize("path", ["", "chat", "feed"])
def test_every_page_fits_a_phone(demo_url: str, visit: Visit, path: str) -> None:
    name = "W" * 40
    ned = visit(demo_url, name, viewport={"width": 320, "height": 640})
    page = ned.open(path)

    drop(ned.page, {"W" * 100 + ".mov": 0})

    expect(page.get_by_text(name).first).to_be_visible()
    for shown in (page, ned.page):
        assert shown.evaluate("document.documentElement.scrollWidth") <= 320


@thorough
def test_signing_out_ends_the_other_tabs_too(demo_url: str, visit: Visit, make_clip: MakeClip) -> None:
    hans = visit(demo_url, "Hans")
    videos, chat, feed = (hans.open(path) for path in ("", "chat", "feed"))
    hans.upload(make_clip("long.mov", seconds=120, size="1280x720"))
    expect_encoding(videos, "long.mov")
    expect(chat.locator("#people .own")).to_have_count(1)
    expect(feed.locator("#headlines[data-is-loaded]")).to_be_attached()

    hans.page.get_by_role("button", name="Sign out").click()

    for page in (hans.page, videos, chat):
        expect(page.get_by_label("Your name")).to_be_visible()
    expect(feed.get_by_role("link", name="Sign in")).to_be_visible()


@thorough
def test_file_name_is_never_html(demo_url: str, visit: Visit, make_clip: MakeClip) -> None:
    name = "<img src=x onerror=document.title='owned'>.mov"
    mallory = visit(demo_url, "Mallory <script>")

    mallory.upload(make_clip(name, seconds=1))

    expect(mallory.page.locator("article.video h3")).to_contain_text("<img src=x onerror")
    expect(card(mallory.page, name)).to_be_visible()
    assert "owned" not in mallory.page.title()
    assert mallory.page.locator("jobpush-tasks img").count() == 0
    assert mallory.errors == []


@thorough
def test_file_without_video_fails_with_a_sentence(
    demo_url: str, visit: Visit, tmp_path: Path, make_clip: MakeClip
) -> None:
    eva = visit(demo_url, "Eva")
    broken = tmp_path / "broken.mov"
    broken.write_bytes(make_clip("whole.mov", seconds=1).read_bytes()[:2000])

    eva.upload(broken)

    expect_state(eva.page, "broken.mov", "FAILURE")
    error = card(eva.page, "broken.mov").locator("[part=error]")
    expect(error).to_contain_text("video")
    assert "Traceback" not in error.inner_text()


def test_failed_upload_that_runs_again_leaves_no_part_on_the_server(
    demo_url: str, visit: Visit, make_clip: MakeClip
) -> None:
    ada = visit(demo_url, "Ada")
    refuse = {"status": 400, "json": {"error": {"code": "no_space", "message": "There is no space."}}}
    ada.page.route("**/videos/*", lambda route: route.fulfill(**refuse), times=1)
    ada.upload(make_clip("again.mov", seconds=1))
    expect_state(ada.page, "again.mov", "FAILURE")

    with ada.page.expect_request(lambda request: request.method == "DELETE"):
        card(ada.page, "again.mov").get_by_role("button", name="Run again").click()

    expect_state(ada.page, "again.mov", "SUCCESS")


@thorough
def test_redis_may_die_and_return_empty_during_a_task(
    fragile_demo: FragileDemo, visit: Visit, make_clip: MakeClip
) -> None:
    gil = visit(fragile_demo.url, "Gil")
    gil.upload(make_clip("long.mov", seconds=30, size="640x360"))
    expect_encoding(gil.page, "long.mov")

    fragile_demo.redis.restart(keep_data=False)

    expect_state(gil.page, "long.mov", "SUCCESS")
    expect(video(gil.page, "long.mp4")).to_be_visible()


@thorough
def test_upload_continues_after_its_gateway_worker_is_killed(
    demo_url: str, visit: Visit, make_clip: MakeClip, tmp_path: Path
) -> None:
    clip = tmp_path / "long.mov"
    clip.write_bytes(make_clip("short.mov", seconds=2).read_bytes() + bytes(60 * 1024**2))  # a video, padded to 60 MB
    ada = visit(demo_url, "Resume")
    throttle(ada.page, 2 * 1024**2)

    ada.upload(clip)
    expect(card(ada.page, "long.mov").locator("[part=message]")).to_contain_text("uploading, 1")
    os.kill(site_worker(demo_url), signal.SIGKILL)
    expect(card(ada.page, "long.mov").locator("[part=message]")).to_contain_text("trying again")
    throttle(ada.page, -1)

    expect(video(ada.page, "long.mp4")).to_be_visible()


def throttle(page: Page, bytes_per_second: int) -> None:
    """Limit the upload rate of the browser; -1: no limit."""
    session = page.context.new_cdp_session(page)
    conditions = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_second}
    session.send("Network.emulateNetworkConditions", conditions)


def site_worker(url: str) -> int:
    """Return the process id of a demo's gunicorn worker, which shares the listening socket with its parent."""
    port = f"{int(url.rstrip('/').rpartition(':')[2]):04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    (inode,) = (row[9] for row in rows if row[1].endswith(f":{port}") and row[3] == "0A")
    holders = {int(fd.parts[2]) for fd in Path("/proc").glob("[0-9]*/fd/*") if target_of(fd) == f"socket:[{inode}]"}
    (worker,) = (pid for pid in holders if parent_of(pid) in holders)
    return worker


def target_of(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""  # the process has ended


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@thorough
def test_trailer_is_one_bar_and_then_a_video(demo_url: str, visit: Visit, make_clip: MakeClip) -> None:
    ada = visit(demo_url, "Trailer")
    ada.upload(make_clip("one.mov", seconds=4), make_clip("two.mov", seconds=4))
    for name in ("one.mp4", "two.mp4"):
        expect(video(ada.page, name)).to_be_visible()

    ada.page.get_by_role("button", name="Make a trailer").click()

    expect_state(ada.page, "Trailer of 2 videos", "SUCCESS")
    expect(video(ada.page, "Trailer.mp4")).to_be_visible()
    assert plays(ada.page, "Trailer.mp4")
    assert ada.errors == []


@thorough
def test_gallery_of_a_hundred_videos_loads_only_what_is_on_the_screen(
    demo_url: str, visit: Visit, make_clip: MakeClip
) -> None:
    ada = visit(demo_url, "Gallery")
    requests: list[str] = []
    details = {"width": 320, "height": 180, "duration": 3.0, "bytes": 1000}
    videos = [
        {"id": str(number), "name": f"{number}.mp4", **details}
        | {"url": f"/f{number}", "download_url": f"/d{number}", "poster_url": f"/p{number}"}
        for number in range(100)
    ]
    ada.page.route("**/videos", lambda route: route.fulfill(json={"videos": videos}))
    ada.page.route("**/[fp][0-9]*", lambda route: (requests.append(route.request.url), route.fulfill(status=204))[1])

    ada.page.reload()
    expect(ada.page.locator("article.video")).to_have_count(100)
    expect(ada.page.locator("article.video video[poster]").first).to_be_visible()

    assert 0 < ada.page.locator("article.video video[poster]").count() < 50
    assert not [url for url in requests if "/f" in url]
