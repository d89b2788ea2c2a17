"""
Make the pictures of the documentation from the running product: ``python tools/pictures.py`` (``make docs-pictures``).

Starts ``jobpush demo``, uploads generated videos with a headless Chromium, and writes ``docs/pictures/``: an animated
picture of the demo, and stills of the card, the list, the inbox, the toasts and the states.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from playwright.sync_api import Browser, Page, expect  # noqa: E402

from demo_app.video import find_ffmpeg  # noqa: E402
from jobpush import JobPush  # noqa: E402
from jobpush.processes.embedded import EmbeddedRedis  # noqa: E402
from tests.browsers import chromium  # noqa: E402
from tests.js.pictures import LOOKS, open_states, take  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
USER = "Ada"
PREFIX = "pictures"
#: Pixels of the animated picture, and of the wide stills.
SMALL, WIDE = {"width": 1000, "height": 620}, {"width": 1280, "height": 800}
#: Seconds between two frames, and seconds that the finished picture stays.
FRAME, STILL = 0.12, 2.5
#: Seconds of the animated picture up to the end of the task; a slower recording is sped up.
LENGTH = 7.0
NOTIFICATIONS = [("Invoice 1043", "Your invoice is ready"), ("Team", "Grace shared a video with you")]
#: A toast is removed after six seconds; the picture may take longer.
KEEP_TOASTS = """
    const later = window.setTimeout;
    window.setTimeout = (run, ms, ...rest) => later(run, ms === 6000 ? 600_000 : ms, ...rest);
"""


def main() -> None:
    """Write all pictures."""
    PICTURES.mkdir(exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(EmbeddedRedis())
        url = stack.enter_context(demo(redis.url))
        browser = stack.enter_context(chromium())
        jobpush = JobPush(redis_url=redis.url, prefix=PREFIX)
        animate(browser, url, folder)
        stills(browser, url, folder, jobpush)
        states(browser, url, folder)


@contextmanager
def demo(redis_url: str) -> Iterator[str]:
    """Run the demo; yields its address."""
    environment = {**os.environ, "JOBPUSH_REDIS_URL": redis_url, "JOBPUSH_PREFIX": PREFIX}
    command = [sys.executable, "-m", "jobpush", "demo", "--port", "0", "--no-open"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)  # noqa: S603
    try:
        assert process.stdout is not None  # noqa: S101
        line = process.stdout.readline()
        if not (found := re.search(r"http://\S+/", line)):
            raise SystemExit(f"the demo did not start: {line!r}")
        yield found[0]
    finally:
        process.terminate()
        process.wait()


def clip(folder: Path, name: str, seconds: int, *, colors: str) -> Path:
    """Generate a video of moving colours."""
    path = folder / name
    first, second = colors.split()
    source = f"gradients=size=640x360:rate=24:duration={seconds}:speed=0.01:c0={first}:c1={second}:nb_colors=2:seed=7"
    command = [find_ffmpeg(), "-nostdin", "-loglevel", "error", "-y", "-f", "lavfi", "-i", source]
    subprocess.run([*command, "-preset", "ultrafast", "-pix_fmt", "yuv420p", str(path)], check=True)  # noqa: S603
    return path


def sign_in(browser: Browser, url: str, size: dict[str, int], *, is_dark: bool = False) -> Page:
    """Open the demo in a new browser profile as our user."""
    context = browser.new_context(
        viewport=size, color_scheme="dark" if is_dark else "light", device_scale_factor=1, locale="en-GB"
    )
    page = context.new_page()
    page.add_init_script(KEEP_TOASTS)
    page.goto(url)
    page.fill("#name", USER)
    page.click("button.primary")
    expect(page.locator("#drop")).to_be_visible()
    return page


def is_final(page: Page, count: int) -> bool:
    """Whether as many videos are in the gallery."""
    return page.locator(".video").count() >= count


def animate(browser: Browser, url: str, folder: Path) -> None:
    """Record the upload and the encoding of two videos."""
    page = sign_in(browser, url, SMALL)
    files = [
        clip(folder, "cat.mov", 15, colors="0x2f6fed 0xf2c14e"),
        clip(folder, "mountains.mov", 20, colors="0x1b7f5c 0xe8e3d3"),
    ]
    frames: list[tuple[float, Path]] = []
    started_at = time.monotonic()
    deadline = started_at + 180
    has_uploaded = False
    while not is_final(page, len(files)):
        if time.monotonic() > deadline:
            raise SystemExit("the videos were not encoded within three minutes")
        frames.append(shot(page, folder, len(frames), started_at))
        if not has_uploaded:
            page.set_input_files("#files", files)
            has_uploaded = True
        page.wait_for_timeout(FRAME * 1000)
    page.wait_for_timeout(1000)
    frames.append(shot(page, folder, len(frames), started_at))
    write_gif(frames, PICTURES / "demo.gif")
    page.context.close()


def shot(page: Page, folder: Path, number: int, started_at: float) -> tuple[float, Path]:
    """Take a frame, with its time."""
    path = folder / f"frame-{number:04}.png"
    page.screenshot(path=path)
    return time.monotonic() - started_at, path


def write_gif(frames: list[tuple[float, Path]], target: Path) -> None:
    """Join frames into an animated picture with one palette."""
    factor = min(1.0, LENGTH / frames[-1][0])
    lines = ["ffconcat version 1.0"]
    for (at, path), (until, _) in zip(frames, frames[1:], strict=False):
        lines += [f"file '{path}'", f"duration {(until - at) * factor:.3f}"]
    last = frames[-1][1]
    lines += [f"file '{last}'", f"duration {STILL}", f"file '{last}'"]
    listing = last.parent / "frames.txt"
    listing.write_text("\n".join(lines) + "\n")
    graph = (
        "fps=8,split[a][b];[a]palettegen=max_colors=96:stats_mode=full[p];"
        "[b][p]paletteuse=dither=none:diff_mode=rectangle"
    )
    source = ["-f", "concat", "-safe", "0", "-i", str(listing)]
    command = [find_ffmpeg(), "-nostdin", "-loglevel", "error", "-y", *source, "-filter_complex", graph, str(target)]
    subprocess.run(command, check=True)  # noqa: S603


def stills(browser: Browser, url: str, folder: Path, jobpush: JobPush) -> None:
    """Take the list, a card with its log, the inbox and a toast."""
    for is_dark, suffix in ((False, ""), (True, "-dark")):
        page = sign_in(browser, url, WIDE, is_dark=is_dark)
        page.locator("jobpush-tasks").evaluate("element => element.setAttribute('attention', 'toast')")
        before = page.locator(".video").count()
        page.set_input_files("#files", [clip(folder, "lake.mov", 20, colors="0x3a5a98 0xd9e7ff")])
        card = page.locator("jobpush-tasks").locator("[part~=task]").first
        expect(card).to_contain_text(re.compile(r"\d+ / \d+ · .+/s"), timeout=60_000)
        if is_dark:  # the light one moves
            page.screenshot(path=PICTURES / "demo-dark.png")
        card.screenshot(path=PICTURES / f"card{suffix}.png")
        toast = page.locator("[part~=toast]").first
        expect(toast).to_be_visible(timeout=180_000)
        toast.screenshot(path=PICTURES / f"toast{suffix}.png")
        while not is_final(page, before + 1):
            page.wait_for_timeout(100)
        if not is_dark:
            for title, message in NOTIFICATIONS:
                jobpush.notify(USER, "message", {"message": message}, keep=True, title=title, url="/")
        inbox(page, suffix)
        page.context.close()


def inbox(page: Page, suffix: str) -> None:
    """Take the bell with its panel, in the header of the demo."""
    bell = page.locator("jobpush-notifications")
    bell.locator("[part=bell]").click()
    for title, _ in NOTIFICATIONS:
        expect(bell.get_by_text(title)).to_be_visible()
    panel = bell.locator("[part=panel]").bounding_box()
    assert panel is not None  # noqa: S101
    around = {"x": panel["x"] - 24, "y": 0, "width": panel["width"] + 48, "height": panel["y"] + panel["height"] + 24}
    page.screenshot(path=PICTURES / f"inbox{suffix}.png", clip=around)


def states(browser: Browser, url: str, folder: Path) -> None:
    """Take every state of the card, in all looks that the tests compare."""
    for name, look in LOOKS.items():
        page = open_states(browser, f"{url}static/states.html", look)
        (original := folder / f"{name}.png").write_bytes(take(page))
        page.context.close()
        reduce(original, PICTURES / f"{name}.png")


def reduce(original: Path, target: Path) -> None:
    """Write a picture with a palette, which takes a third of the bytes."""
    graph = "split[a][b];[a]palettegen=max_colors=256:reserve_transparent=0[p];[b][p]paletteuse=dither=none"
    command = [find_ffmpeg(), "-nostdin", "-loglevel", "error", "-y", "-i", str(original), "-filter_complex", graph]
    subprocess.run([*command, "-pred", "mixed", "-compression_level", "100", str(target)], check=True)  # noqa: S603


if __name__ == "__main__":
    main()
