"""Commands from an event loop to Redis, and their replies."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Protocol

import hiredis

from ...errors import StoreError
from ...rare_log import RareLog
from ..scripts import GATEWAY_SCRIPTS, Call, Command, Script
from .async_connection import AsyncConnection, Loop
from .errors import explain, is_missing_right, is_wrong_server, state_in
from .topology import Address

logger = logging.getLogger("jobpush.redis")

#: Gets the reply to a command: an object of hiredis, or an exception.
Callback = Callable[[Any], None]


class ConnectionLost(StoreError):
    """The connection broke before the reply; the command may have been run or not."""

    code = "link_lost"

    def __init__(self) -> None:
        super().__init__("the connection to Redis was lost")


class Commands(Protocol):
    """The interface of command connections, to one primary or to several."""

    @property
    def is_up(self) -> bool:
        """Whether commands are sent now; unsent ones get a :class:`ConnectionLost`."""

    def server_of(self, key: str) -> Hashable:
        """Return what identifies the server that holds a key, as far as is known."""

    def call(self, command: Command, callback: Callback = ...) -> None:
        """Send one command."""

    def run(self, call: Call, callback: Callback = ...) -> None:
        """Run a script."""


_refusals = RareLog(logger)


def ignore_reply(reply: Any) -> None:
    """Log a refusal, each once a minute, and nothing else."""
    if isinstance(reply, hiredis.ReplyError) and not state_in(reply):  # commands with a callback report a state
        text = explain(reply)
        _refusals.warn(text, f"Redis refused a command of the gateway: {text}")


class CommandConnection(AsyncConnection):
    """
    Sends commands without waiting for the replies to earlier ones; replies arrive in the order of the commands.

    When the connection breaks, each callback that still waits gets a :class:`ConnectionLost`.

    Args:
        address: As in :class:`AsyncConnection`.
        probe: Channel on which the connection checks its right to publish; ``None``: it is not checked.
        on_up: Called on each new connection.
        on_demoted: Called when the server is no longer the primary. This connection reconnects by itself then.
    """

    def __init__(
        self,
        loop: Loop,
        url: str,
        *,
        address: Address | None = None,
        probe: str | None = None,
        on_up: Callable[[], None],
        on_demoted: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(loop, url, "command", address)
        self._probe = probe
        self._on_up = on_up
        self._on_demoted = on_demoted
        self._callbacks: deque[Callback] = deque()

    def server_of(self, key: str) -> Hashable:
        """Return the name of the one server."""
        return self.server

    def call(self, command: Command, callback: Callback = ignore_reply) -> None:
        """
        Send one command.

        Args:
            command: Its words.
            callback: Gets the reply; an exception if Redis refused the command or the connection broke.
        """
        if self._socket is None:
            callback(ConnectionLost())
            return
        self.write(command)
        self._callbacks.append(callback)

    def run(self, call: Call, callback: Callback = ignore_reply) -> None:
        """Run a script. If Redis no longer has it (``SCRIPT FLUSH``), load it and run it again."""

        def answered(reply: Any) -> None:
            if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT"):
                self.load(call.script)
                self.call(call.command(), callback)
            else:
                callback(reply)

        self.call(call.command(), answered)

    def load(self, script: Script) -> None:
        """Load a script into Redis."""
        self.call(("SCRIPT", "LOAD", script.source))

    def _opened(self) -> None:
        if self._probe is not None:
            self.call(("PUBLISH", self._probe, ""), self._probed)
            self.call(("INFO", "server"), self._probed)  # -@dangerous denies it to scripts, without its name
        for script in GATEWAY_SCRIPTS:  # otherwise many first calls would each load one
            self.load(script)
        self._on_up()

    def _probed(self, reply: Any) -> None:
        if is_missing_right(reply):
            self._break(reply)

    def _received(self, reply: Any) -> None:
        callback = self._callbacks.popleft()
        callback(reply)
        if isinstance(reply, hiredis.ReplyError):
            if is_wrong_server(reply):
                self._leave_server(reply)
        elif not self.is_working and callback not in (ignore_reply, self._probed):  # a replica accepts these too
            self._accepted()

    def _leave_server(self, reason: object) -> None:
        self.reconnect(reason)
        self._on_demoted()

    def _lost(self) -> None:
        callbacks, self._callbacks = self._callbacks, deque()
        for callback in callbacks:
            callback(ConnectionLost())

    def _ping(self) -> None:
        self.call(("PING",))
