"""Threads and held locks, which the child of a fork must not inherit."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    """An object with threads or locks."""

    def reset_after_fork(self) -> None:
        """Start from nothing; no other thread exists yet."""


_forkables: weakref.WeakSet[Forkable] = weakref.WeakSet()


def register_after_fork(forkable: Forkable) -> None:
    """Call ``forkable.reset_after_fork()`` in each child process from now on."""
    _forkables.add(forkable)


def _reset() -> None:
    for forkable in _forkables:
        forkable.reset_after_fork()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_reset)
