"""A proxy between a program and its Redis that can delay, cut or silently drop connections."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any

#: Maximum bytes per read.
_CHUNK = 65_536


class Proxy:
    """
    Forwards TCP connections to a port on this machine, in its own thread.

    New connections use the target last set by :meth:`point_to`.
    """

    def __init__(self, port: int) -> None:
        """
        Args:
            port: The initial target.
        """
        #: Delay of each chunk in each direction, in seconds.
        self.delay = 0.0
        self._target = port
        self._pairs: set[_Pair] = set()
        self._is_silent = False
        self._loop = asyncio.new_event_loop()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The URL for redis-py."""
        return f"redis://127.0.0.1:{self.port}/0"

    def point_to(self, port: int) -> None:
        """Change the target of new connections."""
        self._target = port

    def cut(self) -> None:
        """Reset every connection."""
        self._call(lambda: [pair.abort() for pair in list(self._pairs)])

    def go_silent(self) -> None:
        """Stop forwarding silently: connections stay open, and new ones are accepted."""

        def silence() -> None:
            self._is_silent = True
            for pair in self._pairs:
                pair.is_dead = True

        self._call(silence)

    def heal(self) -> None:
        """Forward new connections again; silenced ones stay dead."""

        def heal() -> None:
            self._is_silent = False

        self._call(heal)

    def close(self) -> None:
        """Cut all connections, and stop."""
        self.cut()
        self._call(self._loop.stop)
        self._thread.join()
        self._listener.close()

    def _call(self, call: Callable[[], Any]) -> None:
        done = threading.Event()

        def run() -> None:
            call()
            done.set()

        self._loop.call_soon_threadsafe(run)
        done.wait()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._accept, sock=self._listener.dup()))
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pair = _Pair(self, writer)
        self._pairs.add(pair)
        pair.is_dead = self._is_silent
        try:
            await pair.carry(reader)
        except (OSError, asyncio.CancelledError):
            pass  # one end failed, or the proxy is closing: abort both
        finally:
            pair.abort()
            self._pairs.discard(pair)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection to the target."""
        return await asyncio.open_connection("127.0.0.1", self._target)


class _Pair:
    """A client's connection and the matching one to the target."""

    def __init__(self, proxy: Proxy, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._writers = [writer]
        self.is_dead = False

    async def carry(self, reader: asyncio.StreamReader) -> None:
        if self.is_dead:
            await self._swallow(reader)
            return
        far_reader, far_writer = await self._proxy.connect()
        self._writers.append(far_writer)
        there = asyncio.ensure_future(self._pump(reader, far_writer))
        back = asyncio.ensure_future(self._pump(far_reader, self._writers[0]))
        _, pending = await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
        for one in pending:
            one.cancel()
        await asyncio.gather(there, back, return_exceptions=True)

    def abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            if self._proxy.delay:
                await asyncio.sleep(self._proxy.delay)
            if self.is_dead:
                await self._swallow(reader)
                return
            writer.write(data)
            await writer.drain()
        if self.is_dead:
            await asyncio.Event().wait()  # do not forward the end of the connection either

    async def _swallow(self, reader: asyncio.StreamReader) -> None:
        while await reader.read(_CHUNK):
            pass
        if self.is_dead:
            return
