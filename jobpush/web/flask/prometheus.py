"""
``/jobpush/metrics`` for Prometheus. Most metrics are in the tables of :mod:`jobpush.gateway.counters`.

The hub counts in plain integers, once for each batch of events and never for each frame. A scrape lets the hub's thread
copy them between two wake-ups, so the values of a process are consistent. :mod:`jobpush.gateway.counters` adds up those
of several processes. Nothing is registered with prometheus-client's own registry: that is the application's.
"""

from __future__ import annotations

import hmac
import itertools
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from flask import Response, request
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from ...errors import JobPushError
from ...gateway.counters import (
    COUNTERS,
    DELIVERY_BUCKETS,
    GAUGES,
    NO_VALUES,
    REFUSALS,
    Values,
    added,
    open_siblings,
)

if TYPE_CHECKING:
    from ...gateway.hub import Hub

#: Seconds between two copies of the values for the siblings; also the longest wait of a scrape for the hub.
_SHOW_INTERVAL = 0.125
_HUB_TIMEOUT = 1.0

_REFUSALS_HELP = "Connections, subscriptions, messages and requests that were refused."
_DELIVERY_HELP = (
    "Time from the report in the worker (for other events: from Redis) to the socket, for up to twenty deliveries a "
    "second."
)


class MetricsRefused(JobPushError):
    """The request does not carry the token of the metrics."""

    code = "metrics_refused"


class Metrics(Collector):
    """
    The metrics of one process and of its siblings. The hub's thread counts.

    Args:
        hub: The hub of this process.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._latest = NO_VALUES
        self._siblings = open_siblings(f"{hub.config.key} {hub.config.prefix} {hub.server}")
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        if self._siblings is not None:
            hub.loop.call_soon(self._show)

    def response(self) -> Response:
        """Return the response to a scrape, in the format that its ``Accept`` header asks for."""
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return Response(encode(self._registry), content_type=content_type, headers={"Cache-Control": "no-store"})

    def collect(self) -> Iterator[Metric]:
        """Return the values of all processes, for prometheus-client."""
        values = iter(self._all_values())
        for name, text in GAUGES.items():
            yield GaugeMetricFamily(f"jobpush_{name}", text, next(values))
        for name, text in COUNTERS.items():
            yield CounterMetricFamily(f"jobpush_{name}", text, next(values))
        refusals = CounterMetricFamily("jobpush_refusals", _REFUSALS_HELP, labels=["reason"])
        for reason in REFUSALS:
            refusals.add_metric([reason], next(values))
        yield refusals
        bounds = [*map(str, DELIVERY_BUCKETS), "+Inf"]
        counts = [next(values) for _ in bounds]
        buckets = list(zip(bounds, itertools.accumulate(counts), strict=True))
        yield HistogramMetricFamily("jobpush_delivery_seconds", _DELIVERY_HELP, buckets=buckets, sum_value=next(values))

    def _all_values(self) -> Values:
        """Return the sums over all processes, with the last known values of this one if its hub does not answer."""
        is_taken = threading.Event()

        def take() -> None:
            self._take()
            is_taken.set()

        if self._hub.loop.call_soon(take):
            is_taken.wait(_HUB_TIMEOUT)
        own = self._latest
        return own if self._siblings is None else added(own, self._siblings.others())

    def _show(self) -> None:
        """Share the values with the siblings, for as long as the hub runs."""
        self._hub.loop.call_later(_SHOW_INTERVAL, self._show)
        self._take()

    def _take(self) -> None:
        self._latest = self._hub.values()
        if self._siblings is not None:
            self._siblings.write(self._latest)  # a killed process leaves the values of its last scrape


def ensure_may_read(token: str) -> None:
    """
    Accept the current request if it carries the token, as Prometheus's ``authorization`` setting sends it.

    A token is always required. The address of a request proves nothing: behind a proxy on this machine every client
    has a local address.

    Raises:
        MetricsRefused: Otherwise.
    """
    if not token:
        raise MetricsRefused("the metrics are disabled until JOBPUSH_METRICS_TOKEN is set")
    given = request.headers.get("Authorization", "")
    if not hmac.compare_digest(given.encode("utf-8", "replace"), f"Bearer {token}".encode()):
        raise MetricsRefused("the header Authorization: Bearer <JOBPUSH_METRICS_TOKEN> is missing or wrong")
