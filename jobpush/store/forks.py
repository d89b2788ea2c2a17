"""What a process must not take over from the one that it was forked from: threads, and locks they held."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    """Something with threads or locks."""

    def begin(self) -> None:
        """Start from nothing; no thread is there yet."""


_forkables: weakref.WeakSet[Forkable] = weakref.WeakSet()


def register_after_fork(forkable: Forkable) -> None:
    """Have ``forkable.begin()`` called in each child process from now on."""
    _forkables.add(forkable)


def _begin() -> None:
    for forkable in _forkables:
        forkable.begin()


os.register_at_fork(after_in_child=_begin)
