"""Properties of a process, read from ``/proc``."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def children(pid: int) -> list[int]:
    """Return the ids of a process's children."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


def family(pid: int) -> list[int]:
    """Return the ids of a process and all its descendants."""
    return [pid, *(one for child in children(pid) for one in family(child))]


def memory(pid: int) -> int:
    """Return the anonymous memory of a process in bytes."""
    return _status(pid, "RssAnon") * 1024


def threads(pid: int) -> int:
    """Return the number of threads of a process."""
    return _status(pid, "Threads")


def descriptors(pid: int) -> int:
    """Return the number of open file descriptors of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def _status(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))


@contextmanager
def paused(pids: Iterable[int]) -> Iterator[None]:
    """Stop processes until the end of the block, as the live migration of a machine does."""
    stopped = list(pids)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
