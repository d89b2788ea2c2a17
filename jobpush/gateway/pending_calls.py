"""Calls to Redis in bounded portions, with a limit for each server: one that hangs delays no others."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class PendingCalls(Generic[T]):
    """
    Entries that wait for their call, in order, and the number of unanswered calls; both by server. Pure data.

    Args:
        limit: Unanswered calls of one server.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: defaultdict[Hashable, OrderedDict[T, None]] = defaultdict(OrderedDict)
        self._unanswered: Counter[Hashable] = Counter()

    def __contains__(self, entry: T) -> bool:
        return any(entry in waiting for waiting in self._waiting.values())

    def __iter__(self) -> Iterator[T]:
        return iter([entry for waiting in self._waiting.values() for entry in waiting])

    def is_behind(self, server: Hashable) -> bool:
        """Return whether entries wait for a server."""
        return bool(self._waiting.get(server))

    def add(self, server: Hashable, entry: T, *, is_first: bool = False) -> None:
        """Add an entry behind all others of its server, or before them; one that waits there keeps its place."""
        waiting = self._waiting[server]
        if entry not in waiting:
            self.discard(entry)  # its slot may have moved from another server
            waiting[entry] = None
        if is_first:
            waiting.move_to_end(entry, last=False)

    def discard(self, entry: T) -> None:
        """Remove an entry, if it waits."""
        for waiting in self._waiting.values():
            waiting.pop(entry, None)

    def take(self, unless: Callable[[Hashable], bool] = lambda server: False) -> Iterator[tuple[Hashable, T]]:
        """
        Remove and yield what may be called now, with its server.

        Call :meth:`begin` for each that is called. What is added meanwhile waits for the next time.

        Args:
            unless: Returns whether the entries of a server have to wait.
        """
        for server, waiting in list(self._waiting.items()):
            if not waiting or unless(server):
                continue
            for _ in range(len(waiting)):
                if waiting and self._unanswered[server] < self._limit:
                    yield server, waiting.popitem(last=False)[0]

    def begin(self, server: Hashable) -> None:
        """Count a call."""
        self._unanswered[server] += 1

    def end(self, server: Hashable) -> None:
        """Count the answer to a call."""
        self._unanswered[server] -= 1
