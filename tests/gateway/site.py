"""A small application with a gateway in it and a WebSocket route of its own, for gunicorn and for werkzeug."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import unquote

from flask import Flask, Response, render_template_string, request
from flask_sock import Sock
from werkzeug.serving import make_server

from jobpush.gateway import Gateway

KEY = "278d425bdf160c739803"
SECRET = "7ad3773142a6692b25b8"
METRICS_TOKEN = "let-prometheus-in"


def load_user() -> str | None:
    """Who the cookie names; any text at all, for cookies can't have every character."""
    user = request.cookies.get("user")
    return None if user is None else unquote(user)


class OwnAnswer(Response):
    """Written by the application itself, which leaves gunicorn as Flask-Sock does."""

    def __call__(self, environ: Any, start_response: Any) -> Any:
        environ["gunicorn.socket"].sendall(b"HTTP/1.0 200 OK\r\n\r\nall of it")
        raise StopIteration


def create_app(**settings: Any) -> Flask:
    """Who is signed in comes from a cookie; settings that are not given, from the environment."""
    app = Flask(__name__)
    app.config.update(SOCK_SERVER_OPTIONS={"max_message_size": 1000})
    gateway = Gateway(
        app,
        user_loader=load_user,
        key=KEY,
        secret=SECRET,
        metrics_token=METRICS_TOKEN,
        **settings,
    )

    @gateway.authorize_channel
    def may_join(user_id: str | None, channel: str) -> bool | dict[str, Any]:
        if channel == "private-broken":
            raise RuntimeError("the application has an error")
        if channel.startswith("presence-"):
            return {"name": f"Mx {user_id}"}
        return channel == "private-team" and user_id is not None

    sock = Sock(app)

    @sock.route("/echo")
    def echo(server: Any) -> None:
        while True:
            server.send(server.receive())

    @app.get("/page")
    def page() -> str:
        return render_template_string("{{ jobpush_tags() }}")

    @app.get("/slow")
    def slow() -> Response:
        return Response("slow")

    @app.get("/own")
    def own() -> Response:
        return OwnAnswer()

    return app


def serve_with_werkzeug() -> None:
    """Serve on the listening socket that the parent has given us."""
    server = make_server("127.0.0.1", 0, create_app(), threaded=True, fd=int(os.environ["LISTEN_FD"]))
    server.serve_forever()


if __name__ == "__main__":
    serve_with_werkzeug()
