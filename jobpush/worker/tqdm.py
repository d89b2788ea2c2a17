"""``tqdm`` whose bar moves in the terminal and in the browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import ConfigurationError
from .progress import progress

try:
    from tqdm import tqdm as _Tqdm
except ImportError as exc:
    raise ConfigurationError("jobpush.tqdm needs tqdm: pip install 'jobpush[tqdm]'") from exc


class tqdm(_Tqdm):  # type: ignore[misc]  # noqa: N801 - it stands in for tqdm
    """
    Called as tqdm is; what it counts is also the progress of the task. A bar that is disabled still moves there.

    Example::

        from jobpush import tqdm

        for frame in tqdm(frames, desc="encoding"):
            ...
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # tqdm's own `n` stands still where the bar is disabled, and so does its `desc`.
        self._done: float = kwargs.get("initial", 0)
        self._message: str | None = kwargs.get("desc")
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
        self._report()
        shown: bool | None = super().update(n)
        return shown

    def set_description(self, desc: str | None = None, refresh: bool | None = True) -> None:
        """Say what is being done; in the browser it is the message."""
        self._message = desc
        self._report()
        super().set_description(desc, refresh)

    def _report(self) -> None:
        progress.update(self._done, total=self.total, message=self._message)
