"""
Reproducible screenshots of the demo's page "states", and their comparison.

Text is set in a font that ships with the tests: a subset of DejaVu Sans (https://dejavu-fonts.github.io, licence in the
file). The clock and the animations are stopped. ``tools/pictures.py`` writes the pictures for the documentation, and
the tests compare the page with them.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, expect

FONT = Path(__file__).with_name("pictures.woff2")
#: Time of all pictures, in Unix seconds; noon, UTC.
NOW = 1_767_268_800

#: Side of the squares whose mean colours are compared, in pixels: edges of letters may differ, shapes may not.
SQUARE = 4
#: Tolerated difference of a square's colour channel, of 255, and the share of squares that may exceed it.
CHANNEL_TOLERANCE, SHARE_TOLERANCE = 16, 0.0005

_FREEZE = """async (font) => {
  const bytes = Uint8Array.from(atob(font), (letter) => letter.charCodeAt(0));
  document.fonts.add(await new FontFace("Pictures", bytes).load());
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(":root { font-family: Pictures !important }");
  document.adoptedStyleSheets = [sheet];
}"""

_DIFFERENCE = """async ([pictures, side, tolerance]) => {
  const [a, b] = await Promise.all(pictures.map(async (png) => {
    const image = await createImageBitmap(await (await fetch(`data:image/png;base64,${png}`)).blob());
    const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
    canvas.drawImage(image, 0, 0);
    return canvas.getImageData(0, 0, image.width, image.height);
  }));
  if (a.width !== b.width || a.height !== b.height) return 1;
  const [columns, rows] = [Math.ceil(a.width / side), Math.ceil(a.height / side)];
  const sums = new Float64Array(columns * rows * 3);
  for (let y = 0; y < a.height; y++) {
    for (let x = 0; x < a.width; x++) {
      const square = (Math.floor(y / side) * columns + Math.floor(x / side)) * 3;
      const pixel = (y * a.width + x) * 4;
      for (let channel = 0; channel < 3; channel++) {
        sums[square + channel] += a.data[pixel + channel] - b.data[pixel + channel];
      }
    }
  }
  const limit = tolerance * side * side;
  let off = 0;
  for (let at = 0; at < sums.length; at += 3) off += sums.subarray(at, at + 3).some((sum) => Math.abs(sum) > limit);
  return off / (columns * rows);
}"""


@dataclass(frozen=True)
class Look:
    """Display settings of one picture; the names of the pictures are the keys of :data:`LOOKS`."""

    width: int = 800
    scheme: Literal["light", "dark"] = "light"
    forced_colors: Literal["active", "none"] = "none"
    lang: str = "en"


LOOKS = {
    "states": Look(),
    "states-dark": Look(scheme="dark"),
    "states-phone": Look(width=360),
    "states-forced-colours": Look(forced_colors="active"),
    "states-right-to-left": Look(lang="ar"),
}


def open_states(browser: Browser, url: str, look: Look) -> Page:
    """Open the page "states" in a new context, and wait until everything on it is loaded."""
    context = browser.new_context(
        viewport={"width": look.width, "height": 4_000},
        color_scheme=look.scheme,
        forced_colors=look.forced_colors,
        reduced_motion="reduce",
        locale="en-GB",
        timezone_id="UTC",
    )
    page = context.new_page()
    page.clock.set_fixed_time(NOW)
    page.goto(f"{url}?lang={look.lang}")
    page.evaluate(_FREEZE, base64.b64encode(FONT.read_bytes()).decode())
    tasks = page.locator("jobpush-tasks")
    for part in ("summary", "step", "result-table", "result-image", "rerun"):
        expect(tasks.locator(f"[part~={part}]").last).to_be_visible()
    tasks.locator("[part=result-image]").evaluate("image => image.decode()")
    return page


def take(page: Page) -> bytes:
    """Take the picture of an open page."""
    return page.locator("main").screenshot(animations="disabled")


def difference(page: Page, picture: bytes, other: bytes) -> float:
    """Return the share of squares in which two pictures differ; 1 if they differ in size."""
    pictures = [base64.b64encode(png).decode() for png in (picture, other)]
    share: float = page.evaluate(_DIFFERENCE, [pictures, SQUARE, CHANNEL_TOLERANCE])
    return share
