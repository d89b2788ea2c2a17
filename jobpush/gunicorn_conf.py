"""
gunicorn's configuration for a gateway: ``gunicorn -c python:jobpush.gunicorn_conf 'myapp:create_app()'``.

gunicorn's command line overrides each setting.
"""

from __future__ import annotations

import math
import os
import resource
import shutil
import tempfile
from pathlib import Path
from typing import Any

from jobpush.config import METRICS_FOLDER, Config
from jobpush.web.gunicorn.logs import logging_config

#: The gthread worker, from which the hub can take sockets over, with protection from slow clients.
worker_class = "jobpush.web.gunicorn.worker.Worker"
#: Concurrent requests of the application. Open connections need no thread.
threads = 4
#: Seconds without a heartbeat after which a worker process is replaced.
timeout = 30
#: Seconds that running requests, and then the clients' closes, may take when the server stops.
graceful_timeout = 13 + math.ceil(Config.load({}, {}).drain_timeout)
#: Seconds that an idle HTTP connection is kept, longer than the pause between a page and its resources.
keepalive = 5
#: Folder of the workers' heartbeat files, in memory: a slow disk would delay the heartbeat.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - gunicorn's files, made safely
#: gunicorn would create a socket in the home folder, for its control tool.
control_socket_disable = True

if _log_format := os.environ.get("JOBPUSH_LOG_FORMAT"):
    logconfig_dict = logging_config(_log_format)

_metrics_folders: list[str] = []


def on_starting(server: Any) -> None:
    """
    Create the folder in which the workers share their metrics, and raise the limit of open files.

    Your own configuration may call this.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (most, most)
    )  # shells default to 1,024 descriptors; workers inherit this limit
    folder = tempfile.mkdtemp(prefix="jobpush-metrics-", dir=worker_tmp_dir)
    if os.geteuid() == 0:
        os.chown(folder, server.cfg.uid, server.cfg.gid)  # the workers may run as another user
    _metrics_folders.append(folder)
    os.environ[METRICS_FOLDER] = folder


def on_exit(server: Any) -> None:
    """Remove the folder of the metrics."""
    while _metrics_folders:
        shutil.rmtree(_metrics_folders.pop(), ignore_errors=True)
