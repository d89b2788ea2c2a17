"""
Commands whose answers are waited for, any number in one round trip; at a third of what a pipeline of redis-py costs.

redis-py makes the connection (URL forms, TLS, AUTH, SELECT); from then on hiredis packs and reads.
"""

from __future__ import annotations

import os
import select
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import hiredis
import redis

if TYPE_CHECKING:
    from ..scripts import Command

#: Bytes sent to Redis and read from it at once.
_CHUNK = 65_536
#: Connections that are kept after a crowd has asked at once.
_MAX_IDLE = 16


def open_socket(pool: redis.ConnectionPool) -> socket.socket:
    """
    A socket on which commands may be sent; past TLS, AUTH and SELECT.

    Raises:
        redis.RedisError: If Redis can't be reached, or refuses.
    """
    # Not the pool's own make_connection(), which counts what it has ever made, and makes no more than 100.
    connection: Any = pool.connection_class(**pool.connection_kwargs)
    connection.connect()
    # The socket is ours from here on; redis-py has no public way to give it away.
    taken: socket.socket = connection._sock
    connection._sock = None
    return taken


class Pipe:
    """
    Connections for as many threads as ask at a time, kept for the next; safe to use after a fork.

    Args:
        client: Makes them; it knows how long one may wait for an answer, and what an answer means.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._pool = client.connection_pool
        self._readers: dict[object, Callable[[Any], Any]] = dict(client.response_callbacks)
        self._pid = os.getpid()
        self._idle: deque[PooledConnection] = deque()

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """
        Send commands and wait for their replies.

        Returns:
            One for each, as redis-py would give it; a :class:`redis.ResponseError` for what Redis refused.

        Raises:
            redis.RedisError: If the connection fails; any of the commands may have been done.
        """
        line = self._take()
        try:
            replies = line.ask(commands)
        except BaseException:
            line.close()
            raise
        if len(self._idle) < _MAX_IDLE:
            self._idle.append(line)
        else:
            line.close()
        return [self._read(command[0], reply) for command, reply in zip(commands, replies, strict=True)]

    def close(self) -> None:
        """Close what is idle."""
        while True:
            try:
                self._idle.pop().close()
            except IndexError:  # by us, or by another thread
                return

    def _read(self, name: object, reply: Any) -> Any:
        reader = self._readers.get(name)
        return reply if reader is None or isinstance(reply, redis.ResponseError) else reader(reply)

    def _take(self) -> PooledConnection:
        if self._pid != os.getpid():  # what is there is the parent's
            self._pid, self._idle = os.getpid(), deque()
        while True:
            try:
                line = self._idle.pop()  # the one that was used last: the others are there for rare crowds
            except IndexError:
                return PooledConnection(self._pool)
            if line.is_quiet():
                return line
            line.close()


class PooledConnection:
    """One connection, which serves one thread at a time."""

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self._socket = open_socket(pool)
        self._reader = hiredis.Reader(replyError=redis.ResponseError)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        packed = [hiredis.pack_command(tuple(command)) for command in commands]  # type: ignore[arg-type]  # its stub
        data = b"".join(packed)
        try:
            for start in range(0, len(data), _CHUNK):  # each of them may take as long as an answer
                self._socket.sendall(data[start : start + _CHUNK])
            return [self._reply() for _ in packed]
        except TimeoutError as exc:
            raise redis.TimeoutError("no answer in time") from exc
        except OSError as exc:
            raise redis.ConnectionError(str(exc)) from exc
        except hiredis.ProtocolError as exc:
            raise redis.InvalidResponse(str(exc)) from exc

    def is_quiet(self) -> bool:
        """Whether nothing has come unasked: Redis says nothing between two commands but that it ends the connection."""
        return not self._poll.poll(0)

    def close(self) -> None:
        self._socket.close()

    def __del__(self) -> None:
        if hasattr(self, "_socket"):
            self._socket.close()  # a client may be forgotten without being closed, as one of redis-py may

    def _reply(self) -> Any:
        gets = self._reader.gets
        while (reply := gets()) is False:
            data = self._socket.recv(_CHUNK)
            if not data:
                raise ConnectionResetError("closed by Redis")
            self._reader.feed(data)
        return reply
