"""A real worker with the tests' tasks: ``run_worker.py SETTINGS [WORKER OPTION…]``, settings as JSON."""

from __future__ import annotations

import json
import sys

from celery import maybe_patch_concurrency

maybe_patch_concurrency(sys.argv)  # before any other import, as celery's command line does

from watched_tasks import make_app  # noqa: E402

if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    app, _ = make_app(**settings)
    app.worker_main(["worker", "--loglevel=INFO", "--without-gossip", "--without-mingle", *sys.argv[2:]])
