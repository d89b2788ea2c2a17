"""``tqdm`` whose bar moves in the terminal and in the browser."""

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


#: By which a bar finds what it was given, by place or by name.
_SIGNATURE = inspect.signature(_Tqdm.__init__)
#: The bar that was made last, and the task that made it.
_innermost: ContextVar[tuple[RunningTask | None, tqdm | None]] = ContextVar("jobpush_tqdm", default=(None, None))


class tqdm(_Tqdm):  # type: ignore[misc]  # noqa: N801 - it stands in for tqdm
    """
    Called as tqdm is; what it counts is also the progress of the task. A bar that is disabled still moves there.

    Of bars within each other the task's is the outermost; how far an inner one is counts as a part of its next unit.

    Example::

        from jobpush import tqdm

        for frame in tqdm(frames, desc="encoding"):
            ...
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # tqdm's own `n` stands still where the bar is disabled, and so does its `desc`.
        given = _SIGNATURE.bind(self, *args, **kwargs).arguments
        self._done: float = given.get("initial", 0)
        self._message: str | None = given.get("desc")
        self._is_open = True
        #: How much of the next unit is done, as bars within this one tell.
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
        """Say what is being done; in the browser it is the message."""
        self._message = desc
        self._report()
        super().set_description(desc, refresh)

    def close(self) -> None:
        """End the bar; the one around it goes on."""
        self._is_open = False
        super().close()

    def _report(self, message: str | None = None) -> None:
        message = message or self._message
        done = self._done + self._part
        if self._outer is None:
            progress.update(done, total=self.total, message=message)
            return
        if self.total and self._outer.total:
            # Of several inner bars in turn, the later ones don't move it back.
            self._outer._part = max(self._outer._part, min(done / self.total, 1.0))
        self._outer._report(message)


def _innermost_open() -> tqdm | None:
    """The bar of the task that runs here in which a new one is made; ``None`` if it is the first."""
    task, bar = _innermost.get()
    while bar is not None and not bar._is_open:
        bar = bar._outer
    return bar if task is current_progress() else None
