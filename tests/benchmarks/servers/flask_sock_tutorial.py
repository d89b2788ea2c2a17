"""
Flask-Sock the way tutorials do it: a thread for each connection, in which redis-py listens and the socket is written.

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
    """Say what is published to the stream, until the client has gone."""
    client = redis.Redis.from_url(os.environ["REDIS_URL"])
    with client.pubsub(ignore_subscribe_messages=False) as pubsub:
        pubsub.subscribe(stream)
        for message in pubsub.listen():
            ws.send("ready" if message["type"] == "subscribe" else message["data"].decode())
