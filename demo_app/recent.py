"""The newest entries of a list, kept in Redis for later visitors; the chat and the feed have one each."""

from __future__ import annotations

from functools import cache

from redis import Redis

from .tasks import jobpush


class Recent:
    """
    A bounded stream in the Redis that jobpush uses, with its prefix. Redis errors are not caught.

    Args:
        name: Name of the list.
        size: Entries that are kept.
    """

    def __init__(self, name: str, *, size: int) -> None:
        self._key = f"{jobpush.config.prefix}:demo:{name}"
        self._size = size

    def add(self, **fields: str) -> dict[str, str]:
        """Add an entry. Return it with its ``id``, which gives its order and begins with its Unix milliseconds."""
        entry_id: str = _redis().xadd(self._key, fields, maxlen=self._size, approximate=False)
        return {"id": entry_id, **fields}

    def all(self) -> list[dict[str, str]]:
        """Return the entries, oldest first."""
        return [{"id": entry_id, **fields} for entry_id, fields in _redis().xrange(self._key)]


@cache
def _redis() -> Redis:
    return Redis.from_url(jobpush.config.redis_url, decode_responses=True)
