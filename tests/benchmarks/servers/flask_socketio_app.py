"""
Flask-SocketIO as in its chapter on deployment: gevent under gunicorn, one worker, Redis as the message queue.

    gunicorn -k gevent -w 1 --worker-connections 20000 flask_socketio_app:app

Events are published as in its "Emitting from an External Process": JSON on the channel of the message queue.
"""

from gevent import monkey

monkey.patch_all()

import os  # noqa: E402

from flask import Flask  # noqa: E402
from flask_socketio import SocketIO, join_room  # noqa: E402

app = Flask(__name__)
socketio = SocketIO(app, async_mode="gevent", message_queue=os.environ["REDIS_URL"], cors_allowed_origins="*")


@socketio.on("join")
def join(stream: str) -> None:
    """Join the room of a stream; the acknowledgement confirms it."""
    join_room(stream)
