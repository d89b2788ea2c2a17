"""The optional metrics of a worker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from jobpush.testing import PATIENCE
from tests.celery_site.site import Site
from tests.effort import thorough

#: A process that forks whatever its threads are counting; each child counts too, and is ended if it can't.
FORKING_PROGRAM = """
import os, signal, threading
from jobpush.reporting.worker_metrics import publish_metrics

metrics, is_over = publish_metrics(), threading.Event()

def count():
    with metrics.timing():
        pass
    metrics.lost(1)

def count_all_the_time():
    while not is_over.is_set():
        count()

def forked():
    pid = os.fork()
    if pid:
        return pid
    signal.alarm(10)
    count()
    os._exit(0)

threads = [threading.Thread(target=count_all_the_time) for _ in range(2)]
for thread in threads:
    thread.start()
children = [forked() for _ in range(50)]
codes = {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children}
is_over.set()
for thread in threads:
    thread.join()
count()
print(codes)
"""


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


@thorough
def test_publishing_is_not_timed_by_default(own_site: Site, user: str, tmp_path: Path) -> None:
    own_site.start_worker("-c", "1", environment={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)})
    listener = own_site.listen(user)

    listener.until_final(own_site.delay("encode", user, "cat.mov"))
    own_site.stop_worker()

    assert not list(tmp_path.glob("*.db"))


def test_process_may_fork_while_metrics_are_counted(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    program = [sys.executable, "-W", "ignore", "-c", FORKING_PROGRAM]

    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=PATIENCE)

    assert (done.stdout, done.stderr, done.returncode) == ("{0}\n", "", 0)
