"""
How gunicorn serves a gateway: ``gunicorn -c python:jobpush.gunicorn_conf 'myapp:create_app()'``.

Any of it can be overridden on gunicorn's own command line.
"""

from __future__ import annotations

from pathlib import Path

#: gthread, which lets the hub take its sockets over, guarded from slow senders (sync answers one request at a time).
worker_class = "jobpush.gunicorn_worker.Worker"
#: Threads answer handshakes and plain requests; open connections need none.
threads = 4
#: Seconds without a sign of life after which a worker process is replaced.
timeout = 30
#: Seconds that requests under way may take once the server is told to end.
graceful_timeout = 10
#: Seconds that an idle HTTP connection is kept; longer than the pause between a page and what it loads.
keepalive = 5
#: The workers' sign of life is a file's time; on a slow disk that alone can look like death.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - gunicorn's files, made safely
#: gunicorn 25 and newer would leave a socket in the home folder, for a tool that nobody here uses.
control_socket_disable = True
