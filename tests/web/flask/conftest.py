"""An application with a gateway, in the process of the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, session
from flask.testing import FlaskClient
from flask_wtf import CSRFProtect

from jobpush.gateway import Gateway
from tests.gateway.site import KEY, SECRET

Make = Callable[..., FlaskClient]


@pytest.fixture
def make(redis_url: str) -> Iterator[Make]:
    """Makes an application with a gateway; returns its client."""
    states = []

    def make(
        *,
        csrf: str = "",
        protection: Any = CSRFProtect,
        user_loader: Any = lambda: session.get("user"),
        **settings: Any,
    ) -> FlaskClient:
        app = Flask(__name__)
        app.secret_key = "x" * 32
        if csrf == "first":
            protection(app)
        settings = {"publish_timeout": 60.0, **settings}  # a busy machine
        app.gateway = Gateway(app, user_loader=user_loader, key=KEY, secret=SECRET, redis_url=redis_url, **settings)
        if csrf == "last":
            protection(app)
        states.append(app.extensions["jobpush"])

        @app.post("/form")
        def form() -> str:
            return "ok"

        @app.post("/logout")
        def logout() -> str:
            app.gateway.sign_out()
            return "ok"

        return app.test_client()

    yield make
    for state in states:
        state.store.close()


def sign_in(client: FlaskClient, user: str) -> None:
    with client.session_transaction() as stored:
        stored["user"] = user
