"""SVG bar charts of the results, for light and dark pages."""

from __future__ import annotations

import math
from pathlib import Path
from xml.sax.saxutils import escape

from .report import PLOTS, digits_of
from .results import Results
from .scenarios import SCENARIOS

#: Sizes in pixels.
_WIDTH, _ROW, _LABELS, _VALUES, _TOP = 810, 30, 300, 90, 48
_STYLE = """
  text { font: 14px system-ui, sans-serif; fill: #1f2328 }
  .title { font-weight: 600; font-size: 15px }
  .ours { font-weight: 600 }
  rect { fill: #8c959f }
  rect.ours { fill: #1a7f37 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    rect { fill: #6e7681 }
    rect.ours { fill: #3fb950 }
  }
"""


def write_plots(results: Results, folder: Path) -> None:
    """Write one SVG file for each plot of the report that has results."""
    for scenario, metric, title in PLOTS:
        if results.samples.get(scenario):
            name = f"performance-{scenario}-{metric.replace('_', '-')}.svg"
            (folder / name).write_text(plot(results, scenario, metric, title))


def plot(results: Results, scenario: str, metric: str, title: str) -> str:
    """Return a bar chart as SVG. jobpush is highlighted; whiskers span the smallest to the largest value."""
    rows = []
    for subject in SCENARIOS[scenario].subjects:
        values = results.values(scenario, subject.key, metric)
        median = results.median(scenario, subject.key, metric)
        if median is not None and math.isfinite(median):
            rows.append((subject.key, subject.title, median, min(values), max(values)))
    largest = max((row[4] for row in rows), default=1.0) or 1.0
    scale = (_WIDTH - _LABELS - _VALUES) / largest
    parts = [f'<text class="title" x="0" y="20">{escape(title)}</text>']
    for index, (key, name, median, low, high) in enumerate(rows):
        parts += _bar(
            _TOP + index * _ROW, "ours" if key.startswith("ours") else "other", name, median, low, high, scale
        )
    height = _TOP + len(rows) * _ROW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(title)}">\n<style>{_STYLE}</style>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _bar(top: int, kind: str, name: str, median: float, low: float, high: float, scale: float) -> list[str]:
    middle = top + 9
    begin, end, right = (_LABELS + value * scale for value in (low, high, median))
    parts = [
        f'<text class="{kind}" x="{_LABELS - 10}" y="{top + 14}" text-anchor="end">{escape(name)}</text>',
        f'<rect class="{kind}" x="{_LABELS}" y="{top}" width="{max(1.0, right - _LABELS):.1f}" height="18" rx="2"/>',
        f'<text class="{kind}" x="{max(end, right) + 8:.1f}" y="{top + 14}">{median:,.{digits_of(median)}f}</text>',
    ]
    if high > low:
        parts.append(f'<path d="M{begin:.1f} {middle}H{end:.1f}" stroke="#d4a72c" stroke-width="2"/>')
    return parts
