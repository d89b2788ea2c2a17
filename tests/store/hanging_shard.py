"""A cluster with one primary that hangs, over one Redis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from jobpush.store import Store
from jobpush.store.redis.cluster import key_of, sharded_words
from jobpush.store.redis.errors import ShardUnavailable
from jobpush.store.scripts import Request


class HangingShard:
    """
    A cluster with one primary that hangs: the one with the keys of a tag. All other keys are on a Redis.

    Args:
        tag: See :mod:`jobpush.store.keys`.
        stores: The stores that use the cluster.
    """

    def __init__(self, tag: str, *stores: Store) -> None:
        self._tag = f"{{{tag}}}"
        self.hangs = True
        #: Requests that it did not answer.
        self.refused = 0
        for store in stores:
            store.client.run = partial(self._run, store.client.run)  # type: ignore[method-assign]

    def _run(
        self, run: Callable[..., list[Any]], requests: Sequence[Request], *, may_be_partial: bool = False
    ) -> list[Any]:
        is_lost = [self.hangs and self._tag in str(key_of(sharded_words(request))) for request in requests]
        replies = iter(run([request for request, lost in zip(requests, is_lost, strict=True) if not lost]))
        self.refused += sum(is_lost)
        if any(is_lost) and not may_be_partial:
            raise ShardUnavailable("it hangs")
        return [ShardUnavailable("it hangs") if lost else next(replies) for lost in is_lost]
