"""
Flask-Sock as in tutorials: a thread for each connection, which listens with redis-py and writes to the socket.

    gunicorn --worker-class gthread --threads 1200 --worker-connections 20000 flask_sock_tutorial:app
"""

import os

import redis
from flask import Flask
from flask_sock import Sock

app = Flask(__name__)
sock = Sock(app)


@sock.route("/<stream>")
def subscribe(ws, stream: str) -> None:
    """Send the events of a stream until the client disconnects."""
    client = redis.Redis.from_url(os.environ["REDIS_URL"])
    with client.pubsub(ignore_subscribe_messages=False) as pubsub:
        pubsub.subscribe(stream)
        for message in pubsub.listen():
            ws.send("ready" if message["type"] == "subscribe" else message["data"].decode())
