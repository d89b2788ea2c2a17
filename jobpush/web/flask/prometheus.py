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
from ...gateway.counters import COUNTERS, DELIVERY_BUCKETS, GAUGES, REFUSALS, MetricValues, open_siblings

if TYPE_CHECKING:
    from ...gateway.hub import Hub

#: Seconds between two copies of the values for the siblings; also the longest wait of a scrape for the hub.
_SHOW_INTERVAL = 0.125
_HUB_TIMEOUT = 1.0

#: Texts of the metrics with labels or buckets.
_HELP = {
    "refusals": "Connections, subscriptions, messages and requests that were refused.",
    "delivery_seconds": "Time from the report in the worker (for other events: from Redis) to the socket, "
    "for up to twenty deliveries a second.",
}


class MetricsRefused(JobPushError):
    """The request does not carry the token of the metrics."""

    code = "metrics_refused"


class Metrics:
    """
    The metrics of one process and of its siblings. The hub's thread counts.

    Args:
        hub: The hub of this process.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._latest = MetricValues()
        self._siblings = open_siblings(f"{hub.config.key} {hub.config.prefix} {hub.server}")
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Figures(self))
        if self._siblings is not None:
            hub.loop.call_soon(self._show)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the text for Prometheus and its content type, chosen by the ``Accept`` header of the request."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def figures(self) -> MetricValues:
        """Return the values of all processes; the last known ones of this process if its hub does not answer."""
        is_taken = threading.Event()

        def take() -> None:
            self._take()
            is_taken.set()

        if self._hub.loop.call_soon(take):
            is_taken.wait(_HUB_TIMEOUT)
        own = self._latest
        return own if self._siblings is None else own + self._siblings.others()

    def _show(self) -> None:
        """Share the values with the siblings, for as long as the hub runs."""
        self._hub.loop.call_later(_SHOW_INTERVAL, self._show)
        self._take()

    def _take(self) -> None:
        hub = self._hub
        gauges = (hub.connection_count, hub.topic_count, hub.is_ready, 1)
        counters = hub.counts()
        delivery = (*hub.delivery.counts, hub.delivery.sum)
        self._latest = MetricValues(map(float, itertools.chain(gauges, counters, hub.refusals.counts, delivery)))
        if self._siblings is not None:
            self._siblings.write(self._latest)  # a killed process leaves the values of its last scrape


class _Figures(Collector):
    """The values as prometheus-client metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        figures = self._metrics.figures()
        for name, value in figures.gauges.items():
            yield GaugeMetricFamily(f"jobpush_{name}", GAUGES[name], value)
        for name, value in figures.counters.items():
            yield CounterMetricFamily(f"jobpush_{name}", COUNTERS[name], value)
        refusals = CounterMetricFamily("jobpush_refusals", _HELP["refusals"], labels=["reason"])
        for reason in REFUSALS:
            refusals.add_metric([reason], figures.refusals[reason])
        yield refusals
        yield _histogram("delivery_seconds", *figures.delivery)


def _histogram(name: str, counts: list[float], total: float) -> HistogramMetricFamily:
    bounds = [*map(str, DELIVERY_BUCKETS), "+Inf"]
    buckets = list(zip(bounds, itertools.accumulate(counts), strict=True))
    return HistogramMetricFamily(f"jobpush_{name}", _HELP[name], buckets=buckets, sum_value=total)


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


def respond(metrics: Metrics) -> Response:
    """Return the response to a scrape."""
    text, content_type = metrics.exposition(request.headers.get("Accept", ""))
    return Response(text, content_type=content_type, headers={"Cache-Control": "no-store"})
