"""
Metrics of a worker, in prometheus-client's default registry, beside those of the application.

Opt-in, by ``JOBPUSH_WORKER_METRICS``. A worker serves no HTTP; with a prefork pool, prometheus-client's multiprocess
mode passes the values of the children to the process that serves them. For example, with ``PROMETHEUS_MULTIPROC_DIR``
set to an empty folder in the worker's environment::

    @celery.signals.worker_ready.connect
    def serve_metrics(**kwargs):
        registry = prometheus_client.CollectorRegistry()
        prometheus_client.multiprocess.MultiProcessCollector(registry)
        prometheus_client.start_http_server(9808, addr="127.0.0.1", registry=registry)
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from prometheus_client import Counter, Histogram

from ..errors import StoreError

#: Seconds: upper bounds of the histogram's buckets. A round trip takes a fraction of a millisecond.
_BUCKETS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)

#: Held around every call of prometheus-client. A fork takes this lock first, so that it never copies
#: prometheus-client's own locks while another thread holds them.
_lock = threading.RLock()  # reentrant: a signal may interrupt a call, and its handler fork
if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


class PublishMetrics:
    """Durations and failures of publishing. One per process, see :func:`publish_metrics`."""

    def __init__(self) -> None:
        with _lock:
            self._seconds = Histogram(
                "jobpush_publish_seconds", "One round trip that publishes events.", buckets=_BUCKETS
            )
            self._failures = Counter("jobpush_publish_failures", "Round trips that failed in Redis.")
            self._lost = Counter("jobpush_states_lost", "Tasks with a dropped newest state: too many waited for Redis.")

    @contextmanager
    def timing(self) -> Iterator[None]:
        """Time one round trip."""
        begun = time.perf_counter()
        try:
            yield
        except StoreError:
            with _lock:
                self._failures.inc()
            raise
        finally:
            seconds = time.perf_counter() - begun
            with _lock:  # not during the round trip, which would delay a fork
                self._seconds.observe(seconds)

    def lost(self, count: int) -> None:
        """Count states that are not published."""
        with _lock:
            self._lost.inc(count)


@cache
def publish_metrics() -> PublishMetrics:
    """Return the metrics of this process; prometheus-client resets itself after a fork."""
    return PublishMetrics()
