"""
A feed: a published headline appears at the top of every open page at once.

Publish from a page, from a terminal with the environment of the worker, or from Celery, for example with its beat::

    python -m demo_app.feed "Our new office is open"
    celery_app.conf.beat_schedule = {"tea": {"task": "demo.headline", "schedule": 3600, "args": ["It is tea time"]}}

The channel is public: visitors can read the page without signing in. The newest headlines are kept in Redis
(``recent.py``) for later visitors.
"""

from __future__ import annotations

import click
from flask import Blueprint, abort, jsonify, render_template, request, session
from flask.typing import ResponseReturnValue
from redis import RedisError

from jobpush import StoreError

from .recent import Recent
from .tasks import celery_app, jobpush

#: Characters of a headline.
MAX_LENGTH = 200

headlines = Recent("headlines", size=30)
pages = Blueprint("feed", __name__, url_prefix="/feed")


@celery_app.task(name="demo.headline")  # type: ignore[untyped-decorator]  # Celery has no types
def publish(text: str, by: str = "Celery") -> None:
    """
    Publish a headline; as a plain function, or as a task of a worker.

    Raises:
        ValueError: If it is empty or too long.
    """
    text = text.strip()
    if not 0 < len(text) <= MAX_LENGTH:
        raise ValueError(f"A headline has 1 to {MAX_LENGTH} characters.")
    jobpush.trigger("feed", "headline", headlines.add(text=text, by=by))


@pages.get("")
def page() -> ResponseReturnValue:
    """Show the feed, with a form for signed-in users."""
    return render_template("feed.html", user_id=session.get("user_id"), max_length=MAX_LENGTH)


@pages.get("/headlines")
def list_headlines() -> ResponseReturnValue:
    """Return the newest headlines, oldest first."""
    return jsonify(headlines.all())


@pages.post("/headlines")
def publish_from_page() -> ResponseReturnValue:
    """Publish the headline that a user has typed."""
    if "user_id" not in session:
        abort(401, "Sign in to publish.")
    try:
        publish(request.form.get("text", ""), session["user_id"])
    except ValueError as exc:
        abort(400, str(exc))
    return "", 204


@click.command()
@click.argument("text")
def main(text: str) -> None:
    """Publish TEXT on the feed."""
    try:
        publish(text, "the command line")
    except (ValueError, RedisError, StoreError) as exc:
        raise click.ClickException(str(exc)) from exc


if __name__ == "__main__":
    main()
