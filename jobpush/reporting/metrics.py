"""
What a worker counts, in prometheus-client's own registry: that of the application, which shows it as it shows its own.

Opt-in, by ``JOBPUSH_WORKER_METRICS``. A worker serves no HTTP; with a prefork pool prometheus-client's multiprocess
mode brings the figures of the children to whoever serves them. For example, with ``PROMETHEUS_MULTIPROC_DIR`` set to
an empty folder in the worker's environment::

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

#: Around all that we do with prometheus-client, whose own locks a fork would leave as they are: held for ever in the
#: child, if another thread counts at that moment. Whoever forks holds this one, and so nobody holds those.
_lock = threading.RLock()  # one that counts may be interrupted by a signal whose handler forks
if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


class PublishMetrics:
    """How long it takes to publish, and what was not published. One for the process, see :func:`publish_metrics`."""

    def __init__(self) -> None:
        with _lock:
            self._seconds = Histogram(
                "jobpush_publish_seconds", "One round trip that publishes events.", buckets=_BUCKETS
            )
            self._failures = Counter("jobpush_publish_failures", "Round trips that Redis did not answer as it should.")
            self._lost = Counter("jobpush_states_lost", "Tasks whose newest state was lost: too many waited for Redis.")

    @contextmanager
    def timing(self) -> Iterator[None]:
        """Around one round trip."""
        begun = time.perf_counter()
        try:
            yield
        except StoreError:
            with _lock:
                self._failures.inc()
            raise
        finally:
            seconds = time.perf_counter() - begun
            with _lock:  # and not while Redis is waited for, which would hold up a fork
                self._seconds.observe(seconds)

    def lost(self, count: int) -> None:
        """So many states will not be published."""
        with _lock:
            self._lost.inc(count)


@cache
def publish_metrics() -> PublishMetrics:
    """Those of this process; prometheus-client begins anew after a fork."""
    return PublishMetrics()
