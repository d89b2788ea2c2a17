"""A minimal Flask application whose pages show tasks."""

from __future__ import annotations

from flask import Flask, render_template_string, session

from jobpush import Gateway


def create_app() -> Flask:
    """Create the application, for gunicorn."""
    app = Flask(__name__)
    app.secret_key = "secret of the tests"
    Gateway(app, user_loader=lambda: session.get("user_id"))

    @app.get("/login/<user_id>")
    def login(user_id: str) -> str:
        session["user_id"] = user_id
        return "welcome"

    @app.get("/")
    def page() -> str:
        return render_template_string("<!doctype html>{{ jobpush_tags() }}<jobpush-tasks></jobpush-tasks>")

    return app
