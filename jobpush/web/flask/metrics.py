"""
What ``/jobpush/metrics`` tells Prometheus of a gateway. What each figure means stands in :data:`_HELP`.

The hub counts in plain integers, once for each batch of events and never for each frame. A scrape asks its thread to
copy them between two wake-ups, so the figures of a process fit each other; see :mod:`jobpush.gateway.metrics` for how
those of several processes come together. Nothing here is registered with prometheus-client's own registry: that is
the application's.
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
from ...gateway.metrics import DELIVERY_BUCKETS, REFUSALS, MetricValues, open_siblings

if TYPE_CHECKING:
    from ...gateway.hub import Hub

#: Seconds between two copies of the figures for the siblings, and that a scrape waits for the hub at most.
_SHOW_INTERVAL = 0.125
_HUB_TIMEOUT = 1.0

_HELP = {
    "connections": "WebSockets and event streams that are open.",
    "topics": "Topics that are heard in Redis.",
    "ready": "Processes that hear Redis and take connections.",
    "processes": "Processes whose figures are added up here.",
    "connections_opened": "Connections that were taken over, refused ones included.",
    "client_messages_received": "Messages that clients have sent.",
    "events_received": "Messages that Redis has brought: events, and what gateways tell each other.",
    "events_sent": "Deliveries of live events: one for each connection that is sent one, or has it in its outbox.",
    "events_conflated": "Deliveries that were spared, for a newer event of the same task came before they were sent.",
    "events_dropped": "Messages that were thrown away with the outbox of a reader who was too slow.",
    "redis_reconnects": "Connections to Redis that were made again after they broke.",
    "tasks_lost": "Tasks that this gateway has found to be lost with their worker.",
    "refusals": "Connections, subscriptions, messages and requests that were refused.",
    "delivery_seconds": "From the event's making in its worker (for one that is no task's: from its way through Redis) "
    "to the socket, of up to twenty deliveries a second.",
}


class MetricsRefused(JobPushError):
    """Who asks for the figures does not have the token."""

    code = "metrics_refused"


class Metrics:
    """
    The figures of one process, and of its siblings. Made with its hub, whose thread does the counting.

    Args:
        hub: Whose figures they are.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._latest = MetricValues()
        self._siblings = open_siblings()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Figures(self))
        if self._siblings is not None:
            hub.loop.call_soon(self._show)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """What Prometheus reads, and its content type; ``accept`` is what it says it can read."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def figures(self) -> MetricValues:
        """Of all processes; the own ones as of now, or as they were last where the hub does not answer."""
        is_taken = threading.Event()

        def take() -> None:
            self._take()
            is_taken.set()

        if self._hub.loop.call_soon(take):
            is_taken.wait(_HUB_TIMEOUT)
        own = self._latest
        return own if self._siblings is None else own + self._siblings.others()

    def _show(self) -> None:
        """Let the siblings see the figures, for as long as the hub runs."""
        self._hub.loop.call_later(_SHOW_INTERVAL, self._show)
        self._take()

    def _take(self) -> None:
        hub = self._hub
        gauges = (hub.connection_count, hub.topic_count, hub.is_ready, 1)
        counters = hub.counts()
        delivery = (*hub.delivery.counts, hub.delivery.sum)
        self._latest = MetricValues(map(float, itertools.chain(gauges, counters, hub.refusals.counts, delivery)))
        if self._siblings is not None:
            self._siblings.write(self._latest)  # whatever a scrape has told, a killed process leaves behind


class _Figures(Collector):
    """The figures as prometheus-client wants them."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        figures = self._metrics.figures()
        for name, value in figures.gauges.items():
            yield GaugeMetricFamily(f"jobpush_{name}", _HELP[name], value)
        for name, value in figures.counters.items():
            yield CounterMetricFamily(f"jobpush_{name}", _HELP[name], value)
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
    Let the present request pass if it carries the token, as Prometheus's ``authorization`` setting sends it.

    There is no way in without one. The address that a request comes from proves nothing: a proxy on this machine
    makes every stranger look like a neighbour.

    Raises:
        MetricsRefused: Otherwise.
    """
    if not token:
        raise MetricsRefused("the metrics are shown to nobody until JOBPUSH_METRICS_TOKEN is set")
    given = request.headers.get("Authorization", "")
    if not hmac.compare_digest(given.encode("utf-8", "replace"), f"Bearer {token}".encode()):
        raise MetricsRefused("the header Authorization: Bearer <JOBPUSH_METRICS_TOKEN> is missing or wrong")


def respond(metrics: Metrics) -> Response:
    """The answer to a scrape."""
    text, content_type = metrics.exposition(request.headers.get("Accept", ""))
    return Response(text, content_type=content_type, headers={"Cache-Control": "no-store"})
