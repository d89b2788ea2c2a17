"""A load balancer on the loopback whose connections a test can cut."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

#: Maximum bytes per read.
CHUNK = 65_536


class LoadBalancer:
    """
    Forwards each TCP connection to the first gateway that accepts it.

    It runs in its own thread until :meth:`close`.
    """

    def __init__(self, gateway_ports: Sequence[int]) -> None:
        """
        Listen on a free port.

        Args:
            gateway_ports: Ports on the loopback, in order of preference.
        """
        self._gateway_ports = gateway_ports
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="load balancer")
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Reset every connection, as a failing network does; new ones are accepted."""
        self._run(self._abort())

    def close(self) -> None:
        """Stop listening and drop every connection."""
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        while self._writers:  # until every connection handler has ended
            await asyncio.sleep(0)

    async def _end(self) -> None:
        self._server.close()
        await self._abort()
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            gateway_reader, gateway_writer = await self._connect()
            both = {writer, gateway_writer}
            self._writers |= both
            try:
                await asyncio.gather(forward(reader, gateway_writer), forward(gateway_reader, writer))
            finally:
                gateway_writer.close()
                self._writers -= both
        writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for port in self._gateway_ports[:-1]:
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", port)
        return await asyncio.open_connection("127.0.0.1", self._gateway_ports[-1])


async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy one direction of a connection until it ends."""
    while chunk := await reader.read(CHUNK):
        writer.write(chunk)
        await writer.drain()
    writer.write_eof()
