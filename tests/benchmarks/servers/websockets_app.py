"""
The websockets library on uvloop, as its guide on broadcasting has it: one listener, and ``broadcast()``.

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
    """Pass on what is published."""
    client = redis.asyncio.from_url(os.environ["REDIS_URL"])
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    await pubsub.psubscribe("*")
    async for message in pubsub.listen():
        broadcast(listeners[message["channel"].decode()], message["data"].decode())


async def subscribe(connection: ServerConnection) -> None:
    """Be on the list until the client has gone."""
    stream = connection.request.path.removeprefix("/")
    listeners[stream].add(connection)
    try:
        await connection.send("ready")
        await connection.wait_closed()
    finally:
        listeners[stream].discard(connection)


async def main() -> None:
    """Serve until the end."""
    listening = asyncio.create_task(listen())
    async with serve(subscribe, "127.0.0.1", int(os.environ["PORT"]), backlog=2048):
        await listening


uvloop.run(main())
