"""The lease of this gateway, and the removal of what gateways with expired leases have reported."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from functools import partial
from typing import Any

from ...config import Config
from ...store.presence import Presence
from ...store.redis.command_connection import Commands, ConnectionLost
from ...store.redis.errors import explain, state_in
from ...store.replies import read_renewal
from ..loop import Loop
from .reaper import Reaper

logger = logging.getLogger("jobpush.gateway")

#: Seconds after which a command that Redis refused is sent again: Redis is loading, or busy.
RETRY_AFTER = 0.5


class Lease:
    """
    The lease of one gateway process.

    Args:
        on_held: Called when everything is to be reported, for the first time or again; with whether Redis has lost
            data, so that repeated reports are not announced.
        on_settled: Called when the other gateways have had time to report again after a lease was lost.
    """

    def __init__(
        self,
        loop: Loop,
        commands: Commands,
        config: Config,
        *,
        on_held: Callable[[bool], None],
        on_settled: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._commands = commands
        self._config = config
        self._on_held = on_held
        self._on_settled = on_settled
        #: Makes the calls; replaced after the lease was lost.
        self.presence = _new_presence(config)
        #: Whether the lease is known to be held. Otherwise nothing is reported.
        self.is_held = False
        #: Whether all gateways have reported, so that anything missing in Redis is gone.
        self.is_settled = True
        self._settled_at = 0.0
        self._has_begun = False
        #: The epoch of the last renewal; empty before the first.
        self._epoch = ""
        self._reaper = Reaper(commands)
        #: Whether Redis answers but refuses commands, and whether a retry is due.
        self._is_refused = self._is_retrying = False

    def start(self) -> None:
        """Renew the lease from now on."""
        self._loop.call_later(self._config.lease / 3, self.start)
        if self._commands.is_up:
            self._renew()

    def on_connected(self) -> None:
        """Renew the lease: commands sent before the connection broke may be lost, and the lease too."""
        self.is_held = False
        self._reaper.reset()
        self._renew()

    def doubt(self, presence: Presence) -> None:
        """Check whether the lease has ended, as the reply to a call of ``presence`` reports."""
        if presence is self.presence and self.is_held:
            self.is_held = False
            self._renew()

    def unsettle(self) -> None:
        """Give all gateways time to report again, before anything missing in Redis counts as gone."""
        self.is_settled = False
        self._settled_at = self._loop.now + self._config.lease

    def refused(self, error: Exception) -> bool:
        """
        Stop reporting if Redis refuses all commands, because it is full, read-only or loading.

        Returns:
            Whether it does; otherwise the error belongs to the one command.
        """
        if state_in(error) is None:
            return False
        self._wait_until_accepted(error)
        return True

    def tick(self) -> None:
        """Remove what dead gateways have reported. Call about once a second."""
        if not self.is_held:
            return
        if not self.is_settled and self._loop.now >= self._settled_at:
            self.is_settled = True
            self._on_settled()
        # A gateway that lost its own lease was cut off: the others get time to renew before they count as dead.
        if self.is_settled:
            self._reaper.look(self.presence)

    def end(self) -> None:
        """Let the lease end after the grace, within which connections can reconnect elsewhere unnoticed."""
        self._commands.run(self.presence.resign())
        self._commands.run(self.presence.renew(self._known_epoch, seconds=self._config.grace))

    # -- inside --------------------------------------------------------------------------------------

    @property
    def _known_epoch(self) -> str:
        return self._epoch if self._has_begun else ""

    def _renew(self) -> None:
        self._commands.run(self.presence.renew(self._known_epoch), partial(self._renewed, self.presence))

    def _renewed(self, presence: Presence, reply: Any) -> None:
        if presence is not self.presence or isinstance(reply, ConnectionLost):
            return
        if isinstance(reply, Exception):
            self._wait_until_accepted(reply)
            return
        renewal = read_renewal(reply)
        if not renewal.is_held:
            self._begin_anew()
            return
        if self._is_refused:
            self._is_refused = False
            logger.warning("Redis accepts the gateway's commands again")
        has_lost_data = self._epoch not in ("", renewal.epoch)
        if has_lost_data:
            self.unsettle()
        self._epoch, self._has_begun = renewal.epoch, True
        if has_lost_data or not self.is_held:
            self.is_held = True
            self._on_held(has_lost_data)

    def _wait_until_accepted(self, error: Exception) -> None:
        """Report everything again once Redis accepts a renewal."""
        self.is_held = False
        if not self._is_refused:
            self._is_refused = True
            logger.warning(
                "Redis refuses the gateway's commands; they are sent again until it accepts them: %s", explain(error)
            )
        if not self._is_retrying:
            self._is_retrying = True
            self._loop.call_later(RETRY_AFTER, self._retry)

    def _retry(self) -> None:
        self._is_retrying = False
        if self._commands.is_up:
            self._renew()

    def _begin_anew(self) -> None:
        """Continue under another id: an expired lease cannot be renewed."""
        self.presence = _new_presence(self._config)
        self._reaper.reset()
        self.is_held = self._has_begun = False
        self.unsettle()
        self._renew()


def _new_presence(config: Config) -> Presence:
    return Presence(config, secrets.token_hex(8))
