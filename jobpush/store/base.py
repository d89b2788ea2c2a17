"""The base of the blocking store: its connection, its names, and checks of Redis."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from ..config import Config
from ..errors import ConfigurationError
from .keys import LAYOUT, Keys
from .redis.client import RedisClient
from .redis.errors import ShardUnavailable
from .replies import LiveGateways
from .scripts import LIVE, Request

#: Seconds for which the set of live gateways is reused: a lease outlives it many times.
_LIVE_GATEWAYS_TTL = 1.0


class StoreClient:
    """
    Connects on first use; safe to use from threads and after a fork.

    Each method raises :class:`~jobpush.errors.StoreError` if Redis refuses a command, or does not answer within
    ``Config.publish_timeout`` seconds.
    """

    def __init__(self, config: Config) -> None:
        """
        Raises:
            ConfigurationError: If ``Config.redis_url`` is not the URL of a Redis.
        """
        self.config = config
        self.keys = Keys.of(config)
        self.client = RedisClient(config.redis_url, timeout=config.publish_timeout, probe=self.keys.probe)
        self._live_gateways: tuple[float, LiveGateways] | None = None

    def close(self) -> None:
        """Close all connections."""
        self.client.close()

    def probe(self) -> None:
        """Check that Redis accepts writes: a full Redis or a replica answers a PING too."""
        self.run([("SET", self.keys.probe, "", "PX", 1)])

    def check_layout(self) -> None:
        """
        Check at start that the stored data has this version's layout, and record the layout in an empty Redis.

        Raises:
            ConfigurationError: If another version of jobpush has written another layout.
        """
        _, stored = self.run([("SET", self.keys.layout, LAYOUT, "NX"), ("GET", self.keys.layout)])
        if stored != str(LAYOUT).encode():
            raise ConfigurationError(
                f"The data below the prefix {self.config.prefix!r} in Redis has layout {stored.decode()}, and this"
                f" version of jobpush uses layout {LAYOUT}: stop all processes of the other version, then start this"
                " one with another JOBPUSH_PREFIX, or remove the old data"
            )

    def live_gateways(self, seen: Iterable[bytes] = ()) -> LiveGateways:
        """
        Return the live gateways, read at most a second ago, and again if one that is ``seen`` is missing.

        Raises:
            StoreError: If Redis does not answer, and they are unknown.
        """
        now, known = time.monotonic(), self._live_gateways
        if known is None or now - known[0] >= _LIVE_GATEWAYS_TTL or not known[1].ids.issuperset(seen):
            try:
                ((ids, dead),) = self.run([LIVE([self.keys.gateways])])
                live = LiveGateways(frozenset(ids), dead > 0)
            except ShardUnavailable:  # other primaries have what is counted; no gateway can renew its lease meanwhile
                if known is None:
                    raise
                live = known[1]
            known = self._live_gateways = now, live
        return known[1]

    def run(self, requests: Sequence[Request], *, may_be_partial: bool = False) -> list[Any]:
        """
        Run scripts and plain commands in one round trip; see :meth:`RedisClient.run`.

        Returns:
            The replies, in order.
        """
        return self.client.run(requests, may_be_partial=may_be_partial)
