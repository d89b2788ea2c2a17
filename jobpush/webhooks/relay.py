"""
The way of an event from Redis into the queue: a thread of the worker's parent takes what the presence scripts
wrote down, gathers it for a moment, and queues one delivery for each endpoint that wants some of it.
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
from .delivery import DELIVER
from .endpoints import Endpoint, configured_endpoints

logger = logging.getLogger(__name__)

#: Events in one request at most. Pusher's own number.
BATCH_SIZE = 20
#: Seconds that one question to Redis waits for events; the end of a worker waits for it.
_POLL = 0.5
#: Seconds without a question after which a relay is not coming back. One that lives asks all the time.
_LONG_GONE = 86_400.0


@dataclass(slots=True)
class _Batch:
    """Entries taken from the stream, and the deliveries of them that the broker has not got yet."""

    ids: Sequence[str]
    deliveries: deque[Delivery]


class WebhookRelay:
    """
    Moves events from the stream in Redis to Celery's queue; any number of workers may do so at once.

    Call :meth:`start` when the worker is ready, in its parent process, and :meth:`stop` when it shuts down.
    """

    def __init__(self, app: Any, config: Config) -> None:
        """
        Prepare; nothing is connected yet.

        Args:
            app: The Celery application whose queue takes the deliveries.
            config: Without ``webhook_urls`` the relay does nothing.

        Raises:
            ConfigurationError: If a URL is wrong, or there is one and key or secret are not set.
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

    def start(self) -> None:
        """Begin, in a thread."""
        if self._endpoints:
            self._thread = Thread(target=self._run, name="jobpush-webhooks", daemon=True)
            self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End within ``timeout`` seconds, with what was taken queued if the broker is there."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._store.join()
                self._relay()
            except Exception as exc:  # a thread that ended here would silence webhooks until the next restart
                self._log_failure(exc)
                self._stopping.wait(self._config.retry_interval)
        self._leave()

    def _relay(self) -> None:
        while not self._stopping.is_set():
            if self._batch is None:
                self._batch = self._to_batch(self._claim() or self._gather())
            self._forward(self._batch)
            self._batch = None
            self._is_failing = False

    def _leave(self) -> None:
        try:
            if self._batch is None:
                self._store.forget(self._consumer)
        except StoreError as exc:
            logger.debug("a consumer of webhooks is left behind: %s", exc)
        self._store.close()

    def _log_failure(self, exc: Exception) -> None:
        """Say it once for each time that Redis or the broker is away."""
        if not self._is_failing:
            logger.warning("webhooks are waiting: %s: %s", type(exc).__name__, exc)
        self._is_failing = True

    # -- taking --------------------------------------------------------------------------------------

    def _claim(self) -> list[Entry]:
        """What a worker that vanished had taken; looked for now and then."""
        if time.monotonic() < self._next_claim:
            return []
        idle = self._config.webhook_claim_after
        entries = self._store.claim(self._consumer, count=BATCH_SIZE, idle=idle)
        if not entries:
            self._store.forget_vanished(silence=_LONG_GONE)
            self._next_claim = time.monotonic() + idle / 2
        return entries

    def _gather(self) -> list[Entry]:
        """The next new event, and what comes within the interval after it."""
        entries = self._store.take(self._consumer, count=BATCH_SIZE, wait=_POLL)
        deadline = time.monotonic() + self._config.webhook_batch_interval
        while entries and len(entries) < BATCH_SIZE and (left := deadline - time.monotonic()) > 0:
            entries += self._store.take(self._consumer, count=BATCH_SIZE - len(entries), wait=min(left, _POLL))
        return entries

    # -- handing on ----------------------------------------------------------------------------------

    def _to_batch(self, entries: Sequence[Entry]) -> _Batch:
        ids = [entry.id for entry in entries]
        again = [entry.delivery for entry in entries if entry.delivery]
        fresh = [self._delivery(endpoint, entries) for endpoint in self._endpoints]
        return _Batch(ids, deque([*again, *filter(None, fresh)]))

    def _delivery(self, endpoint: Endpoint, entries: Sequence[Entry]) -> Delivery | None:
        wanted = [entry for entry in entries if entry.event and endpoint.wants(entry.event)]
        if not wanted:
            return None
        # Made of what it carries, so that a batch which is claimed as a whole keeps its id.
        key = " ".join([endpoint.setting, *(entry.id for entry in wanted)])
        return Delivery(
            id=sign(self._config.secret, key)[:32],
            endpoint=endpoint.name,
            events=[entry.event for entry in wanted if entry.event],
            since=min(entry.at for entry in wanted),
        )

    def _forward(self, batch: _Batch) -> None:
        """Queue, then acknowledge. After a failure it goes on where it was, and nothing is queued twice."""
        while batch.deliveries:
            delivery = batch.deliveries[0]
            arguments = [delivery.endpoint, delivery.events, delivery.since]
            self._app.send_task(DELIVER, arguments, task_id=delivery.id, ignore_result=True)
            batch.deliveries.popleft()
        if batch.ids:
            self._store.acknowledge(batch.ids)


def start_relay(app: Any, config: Config) -> WebhookRelay:
    """Start the relay of a worker."""
    relay = WebhookRelay(app, config)
    relay.start()
    return relay
