"""Cancel requests as they arrive: at once for the processes that run tasks, in full for their parents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import redis

from ..config import Config
from .keys import Keys
from .store import store_errors

#: Seconds without a word after which the connection is tested; a broken network says nothing by itself.
_HEALTH_INTERVAL = 10
#: Seconds that a test may take.
_TIMEOUT = 5.0


class CancelFeed:
    """A reader of its own, since it waits; one thread at a time. Requests are made by :meth:`Store.cancel`."""

    def __init__(self, config: Config) -> None:
        self._keys = Keys(config.prefix)
        self._client: redis.Redis = redis.Redis.from_url(
            config.redis_url,
            socket_connect_timeout=_TIMEOUT,
            socket_timeout=_TIMEOUT,
            protocol=2,
        )

    def listen(self) -> Iterator[str | None]:
        """
        The ids of tasks that are cancelled from now on.

        Yields:
            ``None`` when it has begun to hear: look yourself at what was cancelled before. Then task ids.

        Raises:
            StoreError: When the connection is lost.
        """
        with store_errors(), self._client.pubsub() as pubsub:  # type: ignore[no-untyped-call]
            pubsub.subscribe(self._keys.cancel)
            is_asked = False
            while True:
                message = pubsub.get_message(timeout=_HEALTH_INTERVAL)
                if message is None:
                    if is_asked:  # redis-py's own health check of a subscription sends a PING and expects nothing
                        raise redis.TimeoutError(f"no answer for {_HEALTH_INTERVAL} s")
                    pubsub.ping()
                is_asked = message is None
                if message is None or message["type"] == "pong":
                    continue
                yield message["data"].decode() if message["type"] == "message" else None

    def newest(self) -> str:
        """
        Where the stream of requests stands now.

        Raises:
            StoreError: If Redis does not answer.
        """
        with store_errors():
            entries: Any = self._client.xrevrange(self._keys.cancels, count=1)
        return entries[0][0].decode() if entries else "0-0"

    def read(self, after: str, *, timeout: float) -> tuple[str, list[str]]:
        """
        Wait for requests behind a place in the stream.

        Args:
            after: As given by :meth:`newest`, or by this before.
            timeout: Seconds to wait for the first one.

        Returns:
            The new place, and the task ids between the two.

        Raises:
            StoreError: If Redis does not answer.
        """
        milliseconds = max(1, int(min(timeout, _TIMEOUT / 2) * 1000))
        with store_errors():
            replies: Any = self._client.xread({self._keys.cancels: after}, block=milliseconds)
        entries = replies[0][1] if replies else []
        task_ids = [fields[b"task_id"].decode() for _, fields in entries]
        return (entries[-1][0].decode() if entries else after), task_ids

    def close(self) -> None:
        """Give the connections back to Redis; whoever waits gets a :class:`StoreError`."""
        self._client.close()
