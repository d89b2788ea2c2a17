"""Untrusted text for terminals and for programs."""

from __future__ import annotations

import json
import re
import time
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...events import TaskEvent

#: Width of a progress bar in characters.
BAR_WIDTH = 20
COLOURS = {"SUCCESS": "green", "FAILURE": "red", "LOST": "red", "REVOKED": "bright_black", "RETRY": "yellow"}
#: Controls, format characters (bidirectional overrides among them), surrogates, line and paragraph separators.
_UNSAFE_CATEGORIES = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
#: Zero-width joiners: they change no order, and emoji and several scripts need them.
_JOINERS = "\u200c\u200d"
_NOT_ASCII_TEXT = re.compile(r"[^\x20-\x7e]")


def printable(text: str) -> str:
    """
    Return a text without characters that control a terminal, reorder its text or cannot be encoded: they are escaped.
    """
    return _NOT_ASCII_TEXT.sub(_escaped, text)


def json_line(value: object) -> str:
    """Return JSON in one line, in ASCII and without control characters."""
    return json.dumps(value).replace("\x7f", "\\u007f")


def readable_json(value: object) -> str:
    """Return JSON in one line for people: printable characters stay as they are."""
    return printable(json.dumps(value, ensure_ascii=False))


def clock(at: float) -> str:
    """Return the local time of day of a Unix time, which may be untrusted."""
    try:
        return time.strftime("%H:%M:%S", time.localtime(at))
    except (OverflowError, ValueError, OSError):
        return "??:??:??"


def summary(task: TaskEvent) -> str:
    """Return the bar of a task, its title, its error or message, and its pace."""
    parts = (task.title or task.name, task.error or task.message, _pace(task))
    return f"{_bar(task)}  {printable('  '.join(filter(None, parts)))}"


def _bar(task: TaskEvent) -> str:
    """Return the progress bar of a task, or spaces of the same width."""
    if task.percent is None:
        return " " * (BAR_WIDTH + 5)
    filled = round(task.percent / 100 * BAR_WIDTH)
    return f"{'━' * filled}{'─' * (BAR_WIDTH - filled)} {task.percent:>3.0f}%"


def _pace(task: TaskEvent) -> str:
    """Return the rate and the time left of a running task."""
    if task.state.is_final or task.rate is None:
        return ""
    left = f", {task.eta:.0f} s left" if task.eta is not None else ""
    return f"({task.rate:.1f}/s{left})"


def _escaped(found: re.Match[str]) -> str:
    char = found[0]
    if unicodedata.category(char) not in _UNSAFE_CATEGORIES or char in _JOINERS:
        return char
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else json.dumps(char)[1:-1]
