"""
How gunicorn serves a gateway: ``gunicorn -c python:jobpush.gunicorn_conf 'myapp:create_app()'``.

Any of it can be overridden on gunicorn's own command line.
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

#: gthread, which lets the hub take its sockets over, guarded from slow senders (sync answers one request at a time).
worker_class = "jobpush.web.gunicorn.worker.Worker"
#: Threads answer handshakes and plain requests; open connections need none.
threads = 4
#: Seconds without a sign of life after which a worker process is replaced.
timeout = 30
#: Seconds that requests under way, and then the clients' closes, may take once the server is told to end.
graceful_timeout = 10 + math.ceil(Config.load({}, {}).drain_timeout)
#: Seconds that an idle HTTP connection is kept; longer than the pause between a page and what it loads.
keepalive = 5
#: The workers' sign of life is a file's time; on a slow disk that alone can look like death.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - gunicorn's files, made safely
#: gunicorn 25 and newer would leave a socket in the home folder, for a tool that nobody here uses.
control_socket_disable = True

if _log_format := os.environ.get("JOBPUSH_LOG_FORMAT"):
    logconfig_dict = logging_config(_log_format)

_metrics_folders: list[str] = []


def on_starting(server: Any) -> None:
    """
    Make the folder through which the workers add up their metrics, and let each have as many connections as it may.

    A configuration of your own may call this.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # shells begin with 1,024, and the workers with ours
    folder = tempfile.mkdtemp(prefix="jobpush-metrics-", dir=worker_tmp_dir)
    if os.geteuid() == 0:
        os.chown(folder, server.cfg.uid, server.cfg.gid)  # of the workers, who may be somebody else
    _metrics_folders.append(folder)
    os.environ[METRICS_FOLDER] = folder


def on_exit(server: Any) -> None:
    """Remove it."""
    while _metrics_folders:
        shutil.rmtree(_metrics_folders.pop(), ignore_errors=True)
