"""
Moves events from Redis into Celery's queue.

A thread of the worker's parent reads the events that the presence scripts have stored, collects them for a moment, and
queues one delivery for each endpoint with matching filters.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

from ..config import Config
from ..errors import StoreError
from ..signing import sign
from ..store.webhooks import Delivery, Entry, WebhookStore
from .celery_delivery import DELIVER
from .endpoints import Endpoint, configured_endpoints

logger = logging.getLogger(__name__)

#: Maximum number of events in one request. Pusher's value.
BATCH_SIZE = 20
#: Seconds that one read waits for events; a shutdown of the worker waits for it.
_POLL = 0.5
#: Seconds without a read after which a relay counts as gone: a live one reads all the time.
_LONG_GONE = 86_400.0


@dataclass(slots=True)
class _Batch:
    """Entries of the stream, and their deliveries that are not yet queued."""

    ids: Sequence[str]
    deliveries: deque[Delivery]


class WebhookRelay:
    """
    Moves events from the stream in Redis to Celery's queue. Any number of workers may run one.

    Call :meth:`start` in the worker's parent process when it is ready, and :meth:`stop` when it shuts down.
    """

    def __init__(self, app: Any, config: Config) -> None:
        """
        Read the endpoints, without connecting.

        Args:
            app: The Celery application that queues the deliveries.
            config: Without ``webhook_urls`` the relay does nothing.

        Raises:
            ConfigurationError: If a URL is invalid, or key or secret are not set although there is a URL.
        """
        self._app = app
        self._config = config
        self._endpoints = configured_endpoints(config)
        self._store = WebhookStore(config)
        self._consumer = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._stopping = Event()
        self._thread: Thread | None = None
        self._batch: _Batch | None = None
        self._next_claim = 0.0
        self._is_failing = False

    def start(self) -> WebhookRelay:
        """Start the thread, if there are endpoints, and return the relay."""
        if self._endpoints:
            self._thread = Thread(target=self._run, name="jobpush-webhooks", daemon=True)
            self._thread.start()
        return self

    def stop(self, timeout: float = 5.0) -> None:
        """Stop within ``timeout`` seconds. Events that were read are queued first, if the broker is reachable."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._store.join()
                self._relay()
            except Exception as exc:  # without the thread there would be no webhooks until the next restart
                self._log_failure(exc)
                self._stopping.wait(self._config.retry_interval)
        self._leave()

    def _relay(self) -> None:
        while not self._stopping.is_set():
            if self._batch is None:
                self._store.collect(self._consumer)
                self._batch = self._to_batch(self._claim() or self._gather())
            self._forward(self._batch)
            self._batch = None
            self._is_failing = False

    def _leave(self) -> None:
        try:
            if self._batch is None:
                self._store.forget(self._consumer)
        except StoreError as exc:
            logger.debug("Consumer %s of webhooks is not removed: %s", self._consumer, exc)
        self._store.close()

    def _log_failure(self, exc: Exception) -> None:
        """Log the first failure of each outage of Redis or the broker."""
        if not self._is_failing:
            logger.warning("Webhooks wait, and are retried: %s: %s", type(exc).__name__, exc)
        self._is_failing = True

    # -- reading -------------------------------------------------------------------------------------

    def _claim(self) -> list[Entry]:
        """Return entries that a worker read but did not acknowledge; checked from time to time."""
        if time.monotonic() < self._next_claim:
            return []
        idle = self._config.webhook_claim_after
        entries = self._store.claim(self._consumer, count=BATCH_SIZE, idle=idle)
        if not entries:
            self._store.forget_vanished(silence=_LONG_GONE)
            self._next_claim = time.monotonic() + idle / 2
        return entries

    def _gather(self) -> list[Entry]:
        """Return the next new event, and those that follow within the interval."""
        entries = self._store.take(self._consumer, count=BATCH_SIZE, wait=_POLL)
        deadline = time.monotonic() + self._config.webhook_batch_interval
        while entries and len(entries) < BATCH_SIZE and (left := deadline - time.monotonic()) > 0:
            entries += self._store.take(self._consumer, count=BATCH_SIZE - len(entries), wait=min(left, _POLL))
        return entries

    # -- queueing ------------------------------------------------------------------------------------

    def _to_batch(self, entries: Sequence[Entry]) -> _Batch:
        ids = [entry.id for entry in entries]
        again = [entry.delivery for entry in entries if entry.delivery]
        fresh = [self._delivery(endpoint, entries) for endpoint in self._endpoints]
        return _Batch(ids, deque([*again, *filter(None, fresh)]))

    def _delivery(self, endpoint: Endpoint, entries: Sequence[Entry]) -> Delivery | None:
        wanted = [entry for entry in entries if entry.event and endpoint.wants(entry.event)]
        if not wanted:
            return None
        # Derived from the content, so that a batch keeps its id when another worker claims it.
        key = " ".join([endpoint.setting, *(entry.id for entry in wanted)])
        return Delivery(
            id=sign(self._config.secret, key)[:32],
            endpoint=endpoint.name,
            events=[entry.event for entry in wanted if entry.event],
            since=min(entry.at for entry in wanted),
        )

    def _forward(self, batch: _Batch) -> None:
        """Queue, then acknowledge. After a failure it continues at the same delivery, so none is queued twice."""
        while batch.deliveries:
            delivery = batch.deliveries[0]
            arguments = [delivery.endpoint, delivery.events, delivery.since]
            self._app.send_task(DELIVER, arguments, task_id=delivery.id, ignore_result=True)
            batch.deliveries.popleft()
        if batch.ids:
            self._store.acknowledge(batch.ids)
