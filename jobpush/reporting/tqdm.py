"""A ``tqdm`` with a bar in the terminal and in the browser."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from ..errors import ConfigurationError
from .progress import current_progress, progress
from .running_task import RunningTask

try:
    from tqdm import tqdm as _Tqdm
except ImportError as exc:
    raise ConfigurationError("jobpush.tqdm needs tqdm: pip install 'jobpush[tqdm]'") from exc


#: Binds the arguments of a bar, given by position or by name.
_SIGNATURE = inspect.signature(_Tqdm.__init__)
#: The newest bar, and its task.
_innermost: ContextVar[tuple[RunningTask | None, tqdm | None]] = ContextVar("jobpush_tqdm", default=(None, None))


class tqdm(_Tqdm):  # type: ignore[misc]  # noqa: N801 - it stands in for tqdm
    """
    A ``tqdm.tqdm`` that also reports the progress of the task. A disabled bar still moves in the browser. The outermost
    of nested bars is the task's; an inner one counts as a part of its next unit.

    Example::

        from jobpush import tqdm

        for frame in tqdm(frames, desc="encoding"):
            ...
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # tqdm's own `n` and `desc` do not change while the bar is disabled.
        given = _SIGNATURE.bind(self, *args, **kwargs).arguments
        self._done: float = given.get("initial", 0)
        self._message: str | None = given.get("desc")
        self._is_open = True
        #: Part of the next unit that is done, as reported by inner bars.
        self._part: float = 0
        self._outer = _innermost_open()
        _innermost.set((current_progress(), self))
        self._report()

    def __iter__(self) -> Iterator[Any]:
        try:
            for item in self.iterable:
                yield item
                self.update()
        finally:
            self.close()

    def update(self, n: float | None = 1) -> bool | None:
        """Count ``n`` more; raises :class:`~jobpush.TaskCancelled` once the task is cancelled."""
        self._done += n or 0
        self._part = 0
        self._report()
        shown: bool | None = super().update(n)
        return shown

    def reset(self, total: float | None = None) -> None:
        """Count from nothing again, to another total if one is given."""
        super().reset(total)
        self._done = self._part = 0
        self._report()

    def set_description(self, desc: str | None = None, refresh: bool | None = True) -> None:
        """Set the description; in the browser it is the message."""
        self._message = desc
        self._report()
        super().set_description(desc, refresh)

    def close(self) -> None:
        """End the bar; the outer bar continues."""
        self._is_open = False
        super().close()

    def _report(self, message: str | None = None) -> None:
        message = message or self._message
        done = self._done + self._part
        if self._outer is None:
            progress.update(done, total=self.total, message=message)
            return
        if self.total and self._outer.total:
            # Later inner bars do not move it back.
            self._outer._part = max(self._outer._part, min(done / self.total, 1.0))
        self._outer._report(message)


def _innermost_open() -> tqdm | None:
    """Return the open bar of the current task that a new bar is nested in; ``None`` for the first."""
    task, bar = _innermost.get()
    while bar is not None and not bar._is_open:
        bar = bar._outer
    return bar if task is current_progress() else None
