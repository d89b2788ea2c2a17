"""Commands to Redis from inside an event loop, and their answers."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import hiredis

from ...errors import StoreError
from ..scripts import Call, Command, Script
from .async_connection import AsyncConnection, Loop
from .errors import explain, is_wrong_server, state_in

logger = logging.getLogger("jobpush.redis")

#: What a command is answered with: hiredis's objects, or an exception.
Callback = Callable[[Any], None]


class ConnectionLost(StoreError):
    """The connection broke before the answer came; the command may have been done or not."""

    code = "link_lost"

    def __init__(self) -> None:
        super().__init__("the connection to Redis was lost")


def _ignore(reply: Any) -> None:
    if isinstance(reply, hiredis.ReplyError) and state_in(reply) is None:  # of that, whoever waits for answers tells
        logger.warning("Redis refused a command of the gateway: %s", reply)


class CommandConnection(AsyncConnection):
    """
    Commands and their answers, any number under way; answers come in the order of the commands.

    When the connection breaks, every callback under way gets a :class:`ConnectionLost`.

    Args:
        scripts: Taught to Redis at once, so that not each of many first calls has to.
        on_up: Called when the connection stands, each time anew.
        on_demoted: Called when Redis turns out to be a replica now; this link is made again then.
    """

    def __init__(
        self,
        loop: Loop,
        url: str,
        *,
        scripts: Sequence[Script],
        on_up: Callable[[], None],
        on_demoted: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(loop, url, "command")
        self._scripts = scripts
        self._on_up = on_up
        self._on_demoted = on_demoted
        self._callbacks: deque[Callback] = deque()

    def call(self, command: Command, callback: Callback = _ignore) -> None:
        """
        Send one command.

        Args:
            command: Its words.
            callback: Gets the answer; an exception where Redis refused or the link broke.
        """
        if self._socket is None:
            callback(ConnectionLost())
            return
        self.write(command)
        self._callbacks.append(callback)

    def run(self, call: Call, callback: Callback = _ignore) -> None:
        """Run a script, teaching it to Redis first if it does not know it any more (``SCRIPT FLUSH``)."""

        def answered(reply: Any) -> None:
            if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT"):
                self._teach(call.script)
                self.call(call.command(), callback)
            else:
                callback(reply)

        self.call(call.command(), answered)

    def _teach(self, script: Script) -> None:
        self.call(("SCRIPT", "LOAD", script.source))

    def _opened(self) -> None:
        for script in self._scripts:
            self._teach(script)
        self._on_up()

    def _received(self, reply: Any) -> None:
        callback = self._callbacks.popleft()
        callback(reply)
        if isinstance(reply, hiredis.ReplyError):
            if is_wrong_server(reply):
                self.remake(explain(reply))
                self._on_demoted()
        elif not self._is_proven and callback is not _ignore:  # a replica would learn scripts, and answer a PING
            self._prove()

    def _lost(self) -> None:
        callbacks, self._callbacks = self._callbacks, deque()
        for callback in callbacks:
            callback(ConnectionLost())

    def _ping(self) -> None:
        self.call(("PING",))
