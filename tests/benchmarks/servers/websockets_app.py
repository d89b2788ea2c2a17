"""
The websockets library on uvloop as in its guide on broadcasting: one listener, and ``broadcast()``.

    python websockets_app.py
"""

import asyncio
import os
from collections import defaultdict

import redis.asyncio
import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

listeners: defaultdict[str, set[ServerConnection]] = defaultdict(set)


async def listen() -> None:
    """Broadcast published events."""
    client = redis.asyncio.from_url(os.environ["REDIS_URL"])
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    await pubsub.psubscribe("*")
    async for message in pubsub.listen():
        broadcast(listeners[message["channel"].decode()], message["data"].decode())


async def subscribe(connection: ServerConnection) -> None:
    """Keep the client subscribed until it disconnects."""
    stream = connection.request.path.removeprefix("/")
    listeners[stream].add(connection)
    try:
        await connection.send("ready")
        await connection.wait_closed()
    finally:
        listeners[stream].discard(connection)


async def main() -> None:
    """Serve forever."""
    listening = asyncio.create_task(listen())
    async with serve(subscribe, "127.0.0.1", int(os.environ["PORT"]), backlog=2048):
        await listening


uvloop.run(main())
