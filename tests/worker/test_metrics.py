"""What a worker tells Prometheus, if it is asked to."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from .conftest import Site


def test_publishing_in_the_children_of_a_worker_is_timed(own_site: Site, user: str, tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    folder.mkdir()
    variables = {"PROMETHEUS_MULTIPROC_DIR": str(folder), "JOBPUSH_WORKER_METRICS": "1"}
    own_site.start_worker("-c", "2", environment=variables)
    listener = own_site.listen(user)

    listener.until_final(own_site.delay("encode", user, "cat.mov"))
    own_site.stop_worker()

    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))
    assert (registry.get_sample_value("jobpush_publish_seconds_count") or 0) >= 2
    assert registry.get_sample_value("jobpush_publish_failures_total") == 0


def test_publishing_is_not_timed_where_nobody_asked(own_site: Site, user: str, tmp_path: Path) -> None:
    own_site.start_worker("-c", "1", environment={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)})
    listener = own_site.listen(user)

    listener.until_final(own_site.delay("encode", user, "cat.mov"))
    own_site.stop_worker()

    assert not list(tmp_path.glob("*.db"))
