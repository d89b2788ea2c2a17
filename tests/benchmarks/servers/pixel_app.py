"""The measured application: a page with one progress bar, and the tasks that move it."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

from celery import Celery
from flask import Flask, render_template_string

from jobpush import Gateway, JobPush, progress

USER = "bench"
PAGE = """<!doctype html><title>bench</title>{{ jobpush_tags() }}<jobpush-tasks></jobpush-tasks>"""

celery_app = Celery("bench", broker=os.environ["BENCH_BROKER_URL"])
jobpush = JobPush(celery_app)


@celery_app.task(name="bench.count")
@jobpush.track(user="user_id", title="count")
def count(user_id: str, updates: int, times: str) -> None:
    """Report progress ``updates`` times, 5 to 15 ms apart, and write the Unix times to the file ``times``."""
    updated = []
    for number in range(updates):
        updated.append(time.time())
        progress.update(number, total=updates, message=str(number))
        time.sleep(random.uniform(0.005, 0.015))  # noqa: S311
    Path(times).write_text(json.dumps(updated))


@celery_app.task(name="bench.log")
@jobpush.track(user="user_id", title="log")
def log(user_id: str, lines: int, times: str) -> None:
    """
    Report ``lines`` updates and as many log lines in turns, 5 to 15 ms apart.

    The task starts when the file ``times`` exists, and writes the Unix times of updates and log lines to it.
    """
    while not Path(times).exists():
        time.sleep(0.05)
    updated, logged = [], []
    for number in range(lines):
        updated.append(time.time())
        progress.update(number, total=lines, message=str(number))
        time.sleep(random.uniform(0.005, 0.015))  # noqa: S311
        logged.append(time.time())
        progress.log(str(number))
        time.sleep(random.uniform(0.005, 0.015))  # noqa: S311
    Path(times).write_text(json.dumps([updated, logged]))


def create_app() -> Flask:
    """Create the application that serves the page."""
    app = Flask(__name__)
    Gateway(app, user_loader=lambda: USER)
    app.add_url_rule("/", view_func=lambda: render_template_string(PAGE))
    return app
