"""Cancel requests: at once for the processes that run tasks, without loss for their parents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..config import Config
from .keys import Keys
from .redis.client import RedisClient

#: Seconds to wait for Redis.
_TIMEOUT = 5.0


class CancelFeed:
    """
    A reader with its own connection, since it blocks; for one thread. :meth:`Store.cancel` makes the requests.

    Each method raises :class:`~jobpush.errors.StoreError` if Redis does not answer, or the connection is lost.
    """

    def __init__(self, config: Config) -> None:
        self._keys = Keys.of(config)
        self._client = RedisClient(config.redis_url, timeout=_TIMEOUT)

    def listen(self) -> Iterator[str | None]:
        """
        Read the ids of tasks that are cancelled from now on.

        Yields:
            ``None`` once it is subscribed: read what was cancelled before. Then task ids.
        """
        for task_id in self._client.subscribe(self._keys.cancel):
            yield None if task_id is None else task_id.decode(errors="replace")

    def newest(self) -> str:
        """Return the newest place in the stream of requests."""
        (entries,) = self._client.run([("XREVRANGE", self._keys.cancels, "+", "-", "COUNT", 1)])
        return entries[0][0].decode() if entries else "0-0"

    def read(self, after: str, *, timeout: float) -> tuple[str, list[str]]:
        """
        Wait for requests after a place in the stream.

        Args:
            after: A place from :meth:`newest` or from the last call.
            timeout: Seconds to wait for the first one.

        Returns:
            The new place, and the task ids between the two.
        """
        milliseconds = max(1, int(min(timeout, _TIMEOUT / 2) * 1000))
        with self._client.at(self._keys.cancels) as client:
            replies: Any = client.xread({self._keys.cancels: after}, block=milliseconds)
        entries = replies[0][1] if replies else []
        # An id that is no text belongs to no task.
        task_ids = [fields[b"task_id"].decode(errors="replace") for _, fields in entries if b"task_id" in fields]
        return (entries[-1][0].decode() if entries else after), task_ids

    def close(self) -> None:
        """Close the connections; waiting calls raise :class:`StoreError`."""
        self._client.close()
