"""Entries in Redis that jobpush did not write, or that a newer version wrote: they are skipped and logged."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from ..rare_log import RareLog

logger = logging.getLogger("jobpush.store")

_Stored = TypeVar("_Stored")
_Entry = TypeVar("_Entry")


class MalformedEntries:
    """Counts the skipped entries of a process, and logs each kind of them at most once a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._counts: dict[str, int] = {}
        self._log = RareLog(logger, clock)

    def report(self, kind: str, error: object, place: str = "") -> None:
        """Log a skipped entry of a ``kind`` in the plural, and the ``place`` of it."""
        count = self._counts[kind] = self._counts.get(kind, 0) + 1
        where = f" in Redis at {place!r}" if place else " in Redis"
        self._log.warn(
            kind,
            f"Skipped malformed {kind}{where}, {count} so far: {error!r}. Another program writes there, or a newer"
            " version of jobpush; give jobpush a prefix, a database or a Redis user of its own",
        )

    def read(
        self, kind: str, stored: Iterable[_Stored], read: Callable[[_Stored], _Entry], place: str = ""
    ) -> list[_Entry]:
        """Read stored entries, and skip those that ``read`` cannot read."""
        entries = []
        for one in stored:
            try:
                entries.append(read(one))
            except Exception as exc:  # one entry of another program hides none of ours
                self.report(kind, exc, place)
        return entries


#: Of this process.
malformed = MalformedEntries()
