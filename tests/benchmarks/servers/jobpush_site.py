"""jobpush: a Flask site with a gateway that identifies users by Flask's session."""

from __future__ import annotations

from flask import Flask, session

from jobpush import Gateway
from jobpush.config import Config
from jobpush.tokens import make_token

#: Signs the sessions; the benchmark signs the sessions of its users with it too.
SECRET_KEY = "benchmark"


def create_app() -> Flask:
    """Create the site. The Redis URL, key and secret come from the environment."""
    app = Flask(__name__)
    app.secret_key = SECRET_KEY
    Gateway(app, user_loader=lambda: session.get("user_id"))
    return app


def session_cookies(count: int) -> list[str]:
    """Return the session cookies of the users "0", "1", and so on."""
    app = Flask(__name__)
    app.secret_key = SECRET_KEY
    serializer = app.session_interface.get_signing_serializer(app)  # type: ignore[attr-defined]
    return [f"session={serializer.dumps({'user_id': str(number)})}" for number in range(count)]


def tokens(config: Config, count: int) -> list[str]:
    """Return connection tokens of the same users."""
    return [make_token(config, str(number), ttl=3_600) for number in range(count)]
