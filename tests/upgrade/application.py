"""An application that runs on the old and the new version: public names only. Settings come from the environment."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery
from flask import Flask, render_template_string, request

import jobpush
from jobpush import Gateway, JobPush, progress

print(f"jobpush is {jobpush.__file__}", flush=True)
celery_app = Celery("upgrade", broker=os.environ["BROKER_URL"])
tracker = JobPush(celery_app)


@celery_app.task(name="work")  # type: ignore[untyped-decorator]
@tracker.track(user="user_id", title="{title}")
def work(user_id: str, title: str, stop: str) -> None:
    """Update the progress until the file ``stop`` exists."""
    for _ in progress.iter(iter(lambda: Path(stop).exists(), True), total=1_000, message="works"):
        time.sleep(0.1)


def create_app() -> Flask:
    """Return a site with one user."""
    app = Flask(__name__)
    gateway = Gateway(app, user_loader=lambda: "alice")

    @gateway.authorize_channel
    def may_join(user_id: str | None, channel: str) -> bool | dict[str, Any]:
        return True

    @app.get("/")
    def index() -> str:
        return render_template_string("<!doctype html>{{ jobpush_tags() }}<jobpush-tasks></jobpush-tasks>")

    @app.post("/work")
    def start() -> str:
        title, stop = request.args["title"], request.args["stop"]
        work.apply_async(("alice", title, stop), queue=request.args["queue"])
        return ""

    return app
