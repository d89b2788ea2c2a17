"""
Webhooks in Redis: the stream of events to deliver, and the list of abandoned deliveries.

The presence scripts append the events; in a cluster to a stream of their bucket, from which an elected worker moves
them (:meth:`WebhookStore.collect`). The parents of the workers read them through one consumer group, so that one of
them gets each event. An entry stays pending until it is acknowledged; if its worker dies, another one claims it. Each
event is delivered at least once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import redis

from ..config import Config
from ..events import decode
from .keys import Keys, bucket_tags
from .malformed import malformed
from .redis.client import RedisClient
from .redis.errors import ShardUnavailable

#: The consumer group; all workers of a prefix are in it.
_GROUP = "relay"
#: Seconds to wait for Redis, in addition to the blocking time of a command.
_TIMEOUT = 5.0
#: Seconds between two collections of events in a cluster, and after which a silent collector is replaced; events of one
#: bucket that a collection takes.
_COLLECT_EVERY = 1.0
_COLLECTOR_TTL = 10
_COLLECTED_AT_ONCE = 200
#: Abandoned deliveries that the list holds.
GIVEN_UP_KEPT = 1_000
#: Seconds that the list outlives the last of them.
_GIVEN_UP_TTL = 30 * 86_400

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Delivery:
    """
    The content of one request to one endpoint.

    ``id`` is the same in each attempt; ``endpoint`` is the :attr:`~jobpush.webhooks.endpoints.Endpoint.name`; ``since``
    (Unix seconds) is when the oldest of its events happened.
    """

    id: str
    endpoint: str
    events: Sequence[Event]
    since: float


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A delivery that is no longer retried, with the time of that decision (Unix seconds) and its reason."""

    delivery: Delivery
    reason: str
    tries: int
    at: float


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One entry of the stream: an event and its time (Unix seconds), or a delivery to retry.

    Both are ``None`` for an entry that jobpush did not write.
    """

    id: str
    event: Event | None = None
    at: float = 0.0
    delivery: Delivery | None = None


class WebhookStore:
    """The blocking client. Connects on first use."""

    def __init__(self, config: Config) -> None:
        self._keys = Keys.of(config)
        self._stream = self._keys.webhooks
        self._given_up = f"{self._stream}:given-up"
        self._client = RedisClient(config.redis_url, timeout=_TIMEOUT)
        self._next_collection = 0.0
        #: Events that were moved, but not yet removed from their bucket: its primary refuses to.
        self._moved: set[tuple[str, bytes]] = set()

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    # -- the stream ----------------------------------------------------------------------------------

    def join(self) -> None:
        """
        Create the consumer group if it is missing. Call it first, and again after each :class:`StoreError`.

        A new group begins with the oldest event, so events from before the first worker are delivered, too.
        """
        with self._client.at(self._stream) as client:
            try:
                client.xgroup_create(self._stream, _GROUP, id="0", mkstream=True)
            except redis.ResponseError as exc:
                if not str(exc).startswith("BUSYGROUP"):
                    raise

    def collect(self, consumer: str) -> None:
        """
        Move the events of all buckets into the stream, at most once a second, by one of all callers.

        Without a cluster there is nothing to move. Events on an unreachable primary wait. An event is moved twice if
        the connection breaks between the steps, or if its primary refuses the last one until another worker is elected.
        """
        if not self._keys.is_cluster or time.monotonic() < self._next_collection:
            return
        self._next_collection = time.monotonic() + _COLLECT_EVERY
        key = self._keys.webhook_collector
        _, elected = self._client.run([("SET", key, consumer, "NX", "EX", _COLLECTOR_TTL), ("GET", key)])
        if elected != consumer.encode():
            return
        sources = [self._keys.webhook_source(tag) for tag in bucket_tags()]
        read = [("XRANGE", source, "-", "+", "COUNT", _COLLECTED_AT_ONCE) for source in sources]
        _, *pages = self._client.run([("EXPIRE", key, _COLLECTOR_TTL), *read], may_be_partial=True)
        reached = [one for one in zip(sources, pages, strict=True) if not isinstance(one[1], ShardUnavailable)]
        entries = [
            (source, *entry) for source, page in reached for entry in page if (source, entry[0]) not in self._moved
        ]
        entries.sort(key=lambda entry: [int(part) for part in entry[1].split(b"-")])
        self._client.run([("XADD", self._stream, "*", *chain(*fields.items())) for _, _, fields in entries])
        moved = [*self._moved, *((source, entry_id) for source, entry_id, _ in entries)]
        self._moved = set(moved)
        replies = self._client.run([("XDEL", source, entry_id) for source, entry_id in moved], may_be_partial=True)
        self._moved = {one for one, reply in zip(moved, replies, strict=True) if isinstance(reply, ShardUnavailable)}

    def take(self, consumer: str, *, count: int, wait: float) -> list[Entry]:
        """Return up to ``count`` new entries; wait up to ``wait`` seconds (less than 5) for the first."""
        milliseconds = max(1, int(wait * 1000))  # 0 would wait for ever
        with self._client.at(self._stream) as client:
            reply: Any = client.xreadgroup(_GROUP, consumer, {self._stream: ">"}, count=count, block=milliseconds)
        return [_entry(*item) for _, items in reply or () for item in items]

    def claim(self, consumer: str, *, count: int, idle: float) -> list[Entry]:
        """Return up to ``count`` entries that another consumer took ``idle`` seconds ago and did not acknowledge."""
        with self._client.at(self._stream) as client:
            reply: Any = client.xautoclaim(self._stream, _GROUP, consumer, min_idle_time=int(idle * 1000), count=count)
        # Redis 6.2 returns None for trimmed ones.
        return [_entry(*item) for item in reply[1] if item[0] is not None]

    def acknowledge(self, ids: Sequence[str]) -> None:
        """Remove entries from the stream."""
        self._client.transact(self._stream, ("XACK", self._stream, _GROUP, *ids), ("XDEL", self._stream, *ids))

    def forget(self, consumer: str) -> None:
        """Remove a consumer without pending entries, which would be lost with it."""
        with self._client.at(self._stream) as client:
            client.xgroup_delconsumer(self._stream, _GROUP, consumer)

    def forget_vanished(self, *, silence: float) -> None:
        """Remove consumers without pending entries that have been silent for ``silence`` seconds."""
        with self._client.at(self._stream) as client:
            consumers: Any = client.xinfo_consumers(self._stream, _GROUP)
        for consumer in consumers:
            if not consumer["pending"] and consumer["idle"] >= silence * 1000:
                self.forget(consumer["name"].decode(errors="replace"))

    # -- given-up deliveries -------------------------------------------------------------------------

    def give_up(self, delivery: Delivery, *, reason: str, tries: int) -> None:
        """Add a delivery to the list of given-up ones; the oldest is dropped if there are too many."""
        entry = json.dumps(asdict(GivenUp(delivery, reason, tries, time.time())))
        key = self._given_up
        commands = ("LPUSH", key, entry), ("LTRIM", key, 0, GIVEN_UP_KEPT - 1), ("EXPIRE", key, _GIVEN_UP_TTL)
        self._client.transact(key, *commands)

    def given_up(self) -> list[GivenUp]:
        """Return the given-up deliveries, newest first."""
        return [given_up for _, given_up in self._read_given_up()]

    def retry_given_up(self) -> int:
        """
        Retry all given-up deliveries, oldest first, for the full time again.

        Returns:
            The number of deliveries.
        """
        pairs = self._read_given_up()
        for raw, given_up in reversed(pairs):
            again = asdict(given_up.delivery) | {"since": time.time()}
            put_back = ("XADD", self._stream, "*", "again", json.dumps(again))
            self._client.transact(self._stream, ("LREM", self._given_up, 1, raw), put_back)
        return len(pairs)

    def _read_given_up(self) -> list[tuple[bytes, GivenUp]]:
        """Return each entry of the list, stored and read."""
        (stored,) = self._client.run([("LRANGE", self._given_up, 0, -1)])
        return malformed.read("given-up webhooks", stored, lambda raw: (raw, _given_up(raw)), self._given_up)


def _entry(entry_id: bytes, fields: dict[bytes, bytes]) -> Entry:
    name = entry_id.decode()
    try:
        if b"again" in fields:
            return Entry(name, delivery=_read_delivery(decode(fields[b"again"])))
        return Entry(name, _read_webhook(decode(fields[b"e"])), int(fields[b"ms"]) / 1000)
    except Exception as exc:  # it is acknowledged like the others, so that it is not claimed for ever
        malformed.report("webhooks", exc, name)
        return Entry(name)


def _read_webhook(event: Event) -> Event:
    if not isinstance(event["name"], str):
        raise TypeError("the name of a webhook event must be text")
    return event


def _read_delivery(values: dict[str, Any]) -> Delivery:
    events = [_read_webhook(event) for event in values["events"]]
    return Delivery(str(values["id"]), str(values["endpoint"]), events, float(values["since"]))


def _given_up(raw: bytes) -> GivenUp:
    values = decode(raw)
    delivery = _read_delivery(values["delivery"])
    return GivenUp(delivery, str(values["reason"]), int(values["tries"]), float(values["at"]))
