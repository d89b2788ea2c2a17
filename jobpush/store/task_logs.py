"""Logs of tasks: bounded by lines and bytes, and as long-lived as the task."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..channels import escape_id, user_topic
from ..errors import EventError
from ..events import decode, encode_twice, shortened
from .malformed import malformed
from .scripts import APPEND_LOG
from .tasks import TaskStore

#: Id of a line, as Redis gives it; Redis refuses numbers of more than 64 bits.
_LINE_ID = re.compile(r"\d{1,19}-\d{1,19}", re.ASCII)
#: Lines that one call of the script appends.
_LINES_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class LogEntry:
    """
    A line of a task's log.

    Args:
        message: Its text.
        level: A level of :mod:`logging` in lower case.
        at: Unix seconds.
        id: Its place in the log, given by Redis; empty before that.
    """

    message: str
    level: str
    at: float
    id: str = ""

    @classmethod
    def from_wire(cls, wire: object) -> LogEntry:
        """
        Read a line from an untrusted source.

        Raises:
            EventError: If a member is missing or has another type than in :class:`LogEntry`.
        """
        if isinstance(wire, Mapping):
            line = cls(*(wire.get(name) for name in cls.__slots__))  # type: ignore[arg-type]
            texts = (line.message, line.level, line.id)
            if all(isinstance(text, str) for text in texts) and isinstance(line.at, (int, float)):
                return line
        raise EventError(f"a line of a log must have message, level, at and id, not {shortened(repr(wire), 80)}")


@dataclass(frozen=True, slots=True)
class TaskLog:
    """
    A part of a task's log.

    Args:
        entries: Its lines, in order.
        dropped: Lines that were left out since the task began, to keep the log bounded.
        has_gap: Whether lines between ``since`` and these were dropped.
    """

    entries: Sequence[LogEntry]
    dropped: int
    has_gap: bool


class TaskLogStore(TaskStore):
    """Appends to logs, and reads them."""

    def append_log(self, user_id: str, task_id: str, entries: Sequence[LogEntry], *, dropped: int = 0) -> list[str]:
        """
        Append lines to a task's log, and publish each as a ``jobpush:log`` event.

        Args:
            user_id: Owner of the task.
            task_id: The task.
            entries: The lines.
            dropped: Lines that the caller has left out before these.

        Returns:
            The ids of the lines.
        """
        keys, config, topic = self.keys, self.config, user_topic(user_id)
        calls = []
        for start in range(0, max(len(entries), 1), _LINES_AT_ONCE):
            lines = [
                encode_twice({"task_id": task_id, "level": line.level, "message": line.message, "at": line.at})[1:-1]
                for line in entries[start : start + _LINES_AT_ONCE]
            ]
            call = APPEND_LOG(
                (*keys.log(topic, task_id), keys.task(topic, task_id), keys.topic(topic)),
                lines,
                task_id=escape_id(task_id),
                dropped=dropped if start == 0 else 0,
                max_lines=config.log_lines,
                max_bytes=config.log_bytes,
                ttl=config.task_ttl,
            )
            calls.append(call)
        return [line_id.decode() for ids in self.run(calls) for line_id in ids]

    def task_log(self, task_id: str, *, since: str = "", limit: int = 1_000) -> TaskLog:
        """
        Read the log of a task.

        Args:
            task_id: The task.
            since: Id of the last line that the reader has; empty: none.
            limit: Lines to read at most.

        Raises:
            TaskNotFound: If nothing is stored of the task.
            ValueError: If ``since`` is not the id of a line.
        """
        position = line_position(since)
        topic = user_topic(self.owner(task_id))
        log, log_state = self.keys.log(topic, task_id)
        entries: list[LogEntry] = []
        lines: list[Any] = [None] * limit
        while len(lines) == limit and not entries:  # a page without lines would be the end of the log
            read_lines = ("XRANGE", log, f"({since}" if since else "-", "+", "COUNT", limit)
            lines, state = self.run([read_lines, ("HMGET", log_state, "dropped", "dropped_until")])
            entries = malformed.read("lines of logs", lines, lambda line: _entry(*line), log)
            since = lines[-1][0].decode() if lines else since
        dropped, until = ((word or b"").decode("ascii", "replace") for word in state)
        has_gap = position != (0, 0) and bool(_LINE_ID.fullmatch(until)) and position < line_position(until)
        return TaskLog(entries, int(dropped) if dropped.isdecimal() else 0, has_gap)

    def task_log_lines(self, task_id: str) -> Iterator[LogEntry]:
        """Yield all kept lines of a task's log, page by page; see :meth:`task_log`."""
        since = ""
        while entries := self.task_log(task_id, since=since).entries:
            yield from entries
            since = entries[-1].id


def line_position(line_id: str) -> tuple[int, int]:
    """
    Return the place of a line in its log, for comparisons.

    Raises:
        ValueError: If it is not the id of a line.
    """
    if not line_id:
        return 0, 0
    if not _LINE_ID.fullmatch(line_id):
        raise ValueError(f"{line_id!r} is not the id of a line")
    milliseconds, _, number = line_id.partition("-")
    return int(milliseconds), int(number)


def _entry(line_id: bytes, fields: dict[bytes, bytes]) -> LogEntry:
    data: dict[str, Any] = decode(decode(b'"{%b}"' % fields[b"d"]))
    return LogEntry.from_wire({**data, "id": line_id.decode()})
