"""Log lines of a task: in order, bounded while they wait, and counted if dropped."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from ..events import readable
from ..store.task_logs import LogEntry

#: Characters of one line.
MAX_LINE_LENGTH = 2_000
#: Waiting lines of one task, and their characters; beyond that the oldest are dropped.
MAX_LINES = 2_000
MAX_CHARACTERS = 524_288
#: Characters of the name of a level.
_MAX_LEVEL_LENGTH = 20


class TaskLog:
    """The waiting lines of one task. Safe to use from any number of threads."""

    __slots__ = ("_lock", "_lines", "_characters", "_dropped")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: deque[tuple[str, str, float]] = deque()
        self._characters = 0
        self._dropped = 0

    def add(self, text: str, level: str, at: float) -> None:
        """Append a line. It is cleaned up only when it is sent, to save the task's time."""
        if len(text) > MAX_LINE_LENGTH:
            text = text[: MAX_LINE_LENGTH - 1] + "…"
        if len(level) > _MAX_LEVEL_LENGTH:
            level = level[:_MAX_LEVEL_LENGTH]
        with self._lock:
            lines = self._lines
            lines.append((text, level, at))
            self._characters += len(text)
            if len(lines) > MAX_LINES:  # inline, since a loop of lines comes here with each
                self._characters -= len(lines.popleft()[0])
                self._dropped += 1
            if self._characters > MAX_CHARACTERS:
                self._drop_oldest()

    def take(self) -> tuple[list[LogEntry], int]:
        """Remove all lines; return them and the number of lines that were dropped before them."""
        with self._lock:
            lines, dropped = self._lines, self._dropped
            self._lines, self._characters, self._dropped = deque(), 0, 0
        entries = [
            LogEntry(readable(text), readable(level)[:_MAX_LEVEL_LENGTH].lower(), at) for text, level, at in lines
        ]
        return entries, dropped

    def put_back(self, lines: Sequence[LogEntry], dropped: int) -> None:
        """Put back lines that could not be sent, before those added meanwhile."""
        with self._lock:
            self._lines.extendleft((line.message, line.level, line.at) for line in reversed(lines))
            self._characters += sum(len(line.message) for line in lines)
            self._dropped += dropped
            self._drop_oldest()

    def clear(self) -> None:
        """Drop all lines."""
        with self._lock:
            self._dropped += len(self._lines)
            self._lines.clear()
            self._characters = 0

    def _drop_oldest(self) -> None:
        while self._lines and (self._characters > MAX_CHARACTERS or len(self._lines) > MAX_LINES):
            self._characters -= len(self._lines.popleft()[0])
            self._dropped += 1
