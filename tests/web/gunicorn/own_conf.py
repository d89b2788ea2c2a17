"""A configuration of gunicorn that replaces a hook of :mod:`jobpush.gunicorn_conf`."""

from typing import Any

from jobpush.gunicorn_conf import *  # noqa: F403


def post_worker_init(worker: Any) -> None:
    """Do something else."""
