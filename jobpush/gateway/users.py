"""The users of this process's connections: sign-in, and commands about them from other processes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from ..channels import Topic
from ..config import Config
from ..protocol.actions import UserData
from ..protocol.codes import NotAuthorized, TooManyConnectionsOfUser
from ..protocol.server import answer
from .connection import Connection
from .loop import Loop
from .presence.occupancy_reporter import OccupancyReporter
from .presence.watchlists import Watchlists
from .topics import Topics


class Users:
    """
    The signed-in connections of a process.

    Args:
        connections: Returns all connections.
    """

    def __init__(
        self,
        loop: Loop,
        topics: Topics,
        reporter: OccupancyReporter,
        watchlists: Watchlists,
        connections: Callable[[], Iterable[Connection]],
        config: Config,
    ) -> None:
        self._loop = loop
        self._topics = topics
        self._reporter = reporter
        self._watchlists = watchlists
        self._connections = connections
        self._limit = config.max_connections_per_user

    def sign_in(self, connection: Connection, user: UserData) -> bool:
        """Note a connection's user. Return ``False`` if it is one too many, and is closed."""
        topic = Topic(f"user:{user.id}")
        if self._limit and not connection.is_signed_in and self._topics.subscribe(topic).signed_in >= self._limit:
            error = TooManyConnectionsOfUser(f"Over capacity: a user may have {self._limit} connections")
            connection.perform(answer(error))
            return False
        self._reporter.enter(connection, topic)
        if not connection.is_signed_in:
            connection.is_signed_in = True
            self._topics.sign_in(topic)
        self._watchlists.watch(connection, user.watchlist)
        return True

    def on_closed(self, connection: Connection) -> None:
        """Stop counting a closed connection."""
        user = connection.protocol.user
        if connection.is_signed_in and user is not None:
            self._topics.sign_out(Topic(f"user:{user.id}"), self._loop.now)

    def on_command(self, text: bytes) -> None:
        """Do what another process asks all gateways for."""
        command = json.loads(text)
        if command.get("command") == "disconnect":
            self._disconnect(command["user"])

    def _disconnect(self, user_id: str) -> None:
        actions = answer(NotAuthorized("Disconnected by the application"))
        for connection in self._connections():
            user = connection.protocol.user
            if user is not None and user.id == user_id and not connection.is_closing:
                self._reporter.dismiss(connection)
                connection.perform(actions)
