"""The users of this process's connections: sign-in, tokens, and commands about users from other processes."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..channels import Topic
from ..config import Config
from ..protocol.actions import UserData
from ..protocol.codes import NotAuthorized, TooManyConnectionsOfUser
from ..protocol.server import answer
from ..store.hub_commands import HubCommands
from ..store.redis.command_connection import Commands
from ..store.replies import read_revoked_at
from ..tokens import LEEWAY, ConnectionToken, TokenError, read_token
from .connection import Connection
from .loop import Loop
from .presence.lease import RETRY_AFTER
from .presence.occupancy_reporter import OccupancyReporter
from .presence.watchlists import Watchlists
from .topics import Topics

logger = logging.getLogger("jobpush.gateway")


@dataclass(eq=False)
class Users:
    """
    The signed-in connections of a process.

    Args:
        connections: Returns all connections.
    """

    loop: Loop
    commands: Commands
    hub_commands: HubCommands
    topics: Topics
    reporter: OccupancyReporter
    watchlists: Watchlists
    connections: Callable[[], Iterable[Connection]]
    config: Config

    def sign_in(self, connection: Connection, user: UserData) -> bool:
        """Record a connection's user. Return ``False`` if it exceeds the limit, and is closed."""
        topic = self.topics.subscribe(Topic(f"user:{user.id}"))
        if not connection.is_signed_in:
            limit = self.config.max_connections_per_user
            if limit and topic.signed_in >= limit:
                error = TooManyConnectionsOfUser(f"Over capacity: a user may have {limit} connections")
                connection.perform(answer(error))
                return False
            connection.is_signed_in = True
            topic.signed_in += 1
        self.reporter.enter(connection, topic.name)
        if user.watchlist:
            self.watchlists.watch(connection, user.watchlist)
        return True

    def sign_out(self, connection: Connection, user_id: str) -> None:
        """Forget a connection's user; it has left the user's channels."""
        topic = Topic(f"user:{user_id}")
        self.watchlists.discard(connection)
        self.reporter.leave(connection, topic)
        if connection.is_signed_in:
            connection.is_signed_in = False
            self.topics.sign_out(topic, self.loop.now)

    def on_closed(self, connection: Connection) -> None:
        """Stop counting a closed connection."""
        user = connection.protocol.user
        if connection.is_signed_in and user is not None:
            self.topics.sign_out(Topic(f"user:{user.id}"), self.loop.now)

    # -- tokens --------------------------------------------------------------------------------------

    def check_token(self, connection: Connection, text: str) -> None:
        """Check a token, then ask Redis whether it is revoked."""
        try:
            token = read_token(self.config, text, time.time())
        except TokenError as exc:
            self._refuse_token(connection, exc)
        else:
            self._ask_revoked(connection, token)

    def _ask_revoked(self, connection: Connection, token: ConnectionToken) -> None:
        self.commands.call(
            self.hub_commands.revoked_at(token.user_id), partial(self._revoked_answered, connection, token)
        )

    def _revoked_answered(self, connection: Connection, token: ConnectionToken, reply: Any) -> None:
        if connection.is_closing:
            return
        if isinstance(reply, Exception):  # Redis is unreachable: the client waits, as it does for a subscription
            self.loop.call_later(RETRY_AFTER, lambda: self._ask_revoked(connection, token))
            return
        try:
            token.ensure_not_revoked(None if reply is None else read_revoked_at(reply))
        except TokenError as exc:
            self._refuse_token(connection, exc)
            return
        left = token.expires_at - time.time()
        expires_in = left if left > 0 else left + LEEWAY
        connection.resume(connection.protocol.token_accepted(token, self.loop.now, expires_in))

    def _refuse_token(self, connection: Connection, error: TokenError) -> None:
        logger.warning("Connection %s: token refused with %s: %s", connection.socket_id, error.code, error)
        connection.resume(connection.protocol.token_refused(error))

    # -- commands ------------------------------------------------------------------------------------

    def on_command(self, text: bytes) -> None:
        """Carry out a command that another process sent to all gateways."""
        command = json.loads(text)
        match command["command"]:
            case "disconnect":
                self._disconnect(command["user"])
            case "sign_out":
                for connection in self._connections_of(command["user"]):
                    connection.perform(connection.protocol.end_rights("signed_out"))

    def _disconnect(self, user_id: str) -> None:
        actions = answer(NotAuthorized("Disconnected by the application"))
        for connection in self._connections_of(user_id):
            self.reporter.dismiss(connection)
            connection.perform(actions)

    def _connections_of(self, user_id: str) -> list[Connection]:
        connections = [one for one in self.connections() if not one.is_closing]
        return [one for one in connections if one.protocol.user is not None and one.protocol.user.id == user_id]
