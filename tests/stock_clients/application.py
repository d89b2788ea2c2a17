"""The application of the tests: it serves pages, handles Pusher's two auth requests, and hands out scenarios."""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pusher
from flask import Flask, Response, abort, jsonify, request, send_from_directory
from werkzeug.serving import make_server

from jobpush import JobPush
from tests.waiting import PATIENCE

from .backend import MASTER_KEY, Backend
from .deployment import APP_ID, KEY, SECRET, Deployment

HERE = Path(__file__).parent
#: Timeout of a client's long poll for its next scenario, in seconds.
POLL = 25.0
#: Pusher's SDK, used only to sign.
signing_sdk = pusher.Pusher(APP_ID, KEY, SECRET, encryption_master_key_base64=MASTER_KEY)
#: jobpush's signing functions, as an application without Flask uses them.
signing_jobpush = JobPush(key=KEY, secret=SECRET)


class Application:
    """An HTTP server in a thread, and the scenarios that it hands to clients."""

    def __init__(self) -> None:
        self._todo: defaultdict[str, queue.Queue[dict[str, Any]]] = defaultdict(queue.Queue)
        self._done: queue.Queue[dict[str, Any]] = queue.Queue()
        self._numbers = itertools.count()
        self._backend: Backend | None = None
        self._server = make_server("127.0.0.1", 0, self._make_flask(), threaded=True)
        self._server.daemon_threads = True  # the last long poll of a client never gets a response
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="application")
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @contextmanager
    def backed_by(self, deployment: Deployment) -> Iterator[None]:
        """Use this deployment for the back-end calls of scenarios."""
        with closing(Backend(deployment)) as self._backend:
            yield

    def play(self, client: str, scenario: str, stage: dict[str, Any]) -> str | None:
        """
        Let a client play a scenario.

        Args:
            client: Name under which the client requests scenarios.
            scenario: Name of a function in its module.
            stage: Arguments of ``Stage`` in ``stage.mjs``.

        Returns:
            A description of the failure, or ``None``.
        """
        number = next(self._numbers)
        self._todo[client].put({"number": number, "scenario": scenario, "stage": stage})
        deadline = time.monotonic() + PATIENCE
        try:
            while (done := self._done.get(timeout=max(0.0, deadline - time.monotonic())))["number"] != number:
                pass  # the result of an earlier scenario that timed out
        except queue.Empty:
            return f"{client} did not finish within {PATIENCE:.0f} s"
        failure: str | None = done["failure"]
        return failure

    def _make_flask(self) -> Flask:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        app = Flask(__name__, static_folder=None)

        @app.get("/files/<path:name>")
        def files(name: str) -> Response:
            return send_from_directory(HERE, name)

        @app.get("/next/<client>")
        def next_scenario(client: str) -> Any:
            try:
                return jsonify(self._todo[client].get(timeout=POLL))
            except queue.Empty:
                return "", 204

        @app.post("/done")
        def done() -> Any:
            self._done.put(request.get_json())
            return "", 204

        @app.post("/backend/<method>")
        def backend(method: str) -> Any:
            try:
                return jsonify(getattr(self._backend, method)(**request.get_json()))
            except Exception as exc:  # the scenario reports it
                return f"{exc!r}", 500

        app.add_url_rule("/auth", view_func=authorize, methods=["POST"])
        app.add_url_rule("/jobpush-auth", view_func=authorize_with_jobpush, methods=["POST"])
        app.add_url_rule("/user-auth", view_func=authenticate, methods=["POST"])
        app.add_url_rule("/jobpush-user-auth", view_func=authenticate_with_jobpush, methods=["POST"])
        return app


def authorize() -> Any:
    """Authorize a channel with Pusher's SDK. The form field ``user_id`` replaces a session."""
    channel, socket_id = request.form["channel_name"], request.form["socket_id"]
    if "forbidden" in channel:
        abort(403)
    if "forged" in channel:  # a signature for another channel
        return jsonify(signing_sdk.authenticate("private-other", socket_id))
    reply = signing_sdk.authenticate(channel, socket_id, member_of(channel))
    if "shared_secret" in reply:  # the SDK returns bytes, which JSON cannot represent
        reply["shared_secret"] = reply["shared_secret"].decode()
    return jsonify(reply)


def authorize_with_jobpush() -> Any:
    """Authorize a channel with jobpush."""
    channel, socket_id = request.form["channel_name"], request.form["socket_id"]
    return jsonify(signing_jobpush.authorize_channel(socket_id, channel, member_of(channel)))


def authenticate() -> Any:
    """Authenticate a user with Pusher's SDK. The form field ``watchlist`` is comma-separated."""
    user = {"id": request.form["user_id"], "user_info": {"name": f"User {request.form['user_id']}"}}
    if "watchlist" in request.form:
        user["watchlist"] = request.form["watchlist"].split(",")
    return jsonify(signing_sdk.authenticate_user(request.form["socket_id"], user))


def authenticate_with_jobpush() -> Any:
    """Authenticate a user with jobpush."""
    return jsonify(signing_jobpush.authenticate_user(request.form["socket_id"], {"id": request.form["user_id"]}))


def member_of(channel: str) -> dict[str, Any] | None:
    """Return the presence member for the request's user; ``None`` for other channels."""
    if not channel.startswith("presence-"):
        return None
    user_id = request.form["user_id"]
    return {"user_id": user_id, "user_info": {"name": f"User {user_id}"}}
