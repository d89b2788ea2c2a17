"""
Flask-Sock, optimized: one thread of the process listens to Redis and writes to all sockets.

    gunicorn --worker-class gthread --threads 1200 --worker-connections 20000 flask_sock_shared:app

Each connection still has a thread for its request, and one in which simple-websocket reads.
"""

import os
import threading
from collections import defaultdict

import redis
from flask import Flask
from flask_sock import Sock
from simple_websocket import ConnectionClosed

app = Flask(__name__)
sock = Sock(app)

client = redis.Redis.from_url(os.environ["REDIS_URL"])
listeners = defaultdict(set)


def listen() -> None:
    """Send published events to all subscribers."""
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    pubsub.psubscribe("*")
    for message in pubsub.listen():
        text = message["data"].decode()
        for ws in list(listeners[message["channel"].decode()]):
            try:
                ws.send(text)
            except ConnectionClosed:
                pass  # its own thread removes it


threading.Thread(target=listen, daemon=True).start()


@sock.route("/<stream>")
def subscribe(ws, stream: str) -> None:
    """Keep the client subscribed until it disconnects."""
    listeners[stream].add(ws)
    try:
        ws.send("ready")
        while True:
            ws.receive()
    finally:
        listeners[stream].discard(ws)
