"""The last ``seq`` of each task, from which Redis continues if it returns empty."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping

#: Number of tasks with a remembered ``seq``.
MAX_SEQS = 10_000


class Sequences(Mapping[str, int]):
    """Bounded memory of sequence numbers by task id; the task that was published longest ago is forgotten first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seqs: OrderedDict[str, int] = OrderedDict()

    def note(self, task_id: str, seq: int) -> None:
        """Remember a ``seq``; a lower one changes nothing."""
        with self._lock:
            self._seqs[task_id] = max(seq, self._seqs.get(task_id, 0))
            self._seqs.move_to_end(task_id)
            while len(self._seqs) > MAX_SEQS:
                self._seqs.popitem(last=False)

    def __getitem__(self, task_id: str) -> int:
        return self._seqs[task_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._seqs)

    def __len__(self) -> int:
        return len(self._seqs)
