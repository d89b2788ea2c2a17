"""The newest things of a kind, kept in Redis for those who come later; the chat and the feed have one each."""

from __future__ import annotations

from functools import cache

from redis import Redis

from .tasks import jobpush


class Recent:
    """
    A bounded stream in the Redis that jobpush uses, below its prefix. Redis's own errors pass through.

    Args:
        name: What the things are called.
        size: How many of them are kept.
    """

    def __init__(self, name: str, *, size: int) -> None:
        self._key = f"{jobpush.config.prefix}:demo:{name}"
        self._size = size

    def add(self, **fields: str) -> dict[str, str]:
        """Keep a thing. Returns it with its ``id``, which tells its order and begins with its Unix milliseconds."""
        entry_id: str = _redis().xadd(self._key, fields, maxlen=self._size, approximate=False)
        return {"id": entry_id, **fields}

    def all(self) -> list[dict[str, str]]:
        """What is kept, oldest first."""
        return [{"id": entry_id, **fields} for entry_id, fields in _redis().xrange(self._key)]


@cache
def _redis() -> Redis:
    return Redis.from_url(jobpush.config.redis_url, decode_responses=True)
