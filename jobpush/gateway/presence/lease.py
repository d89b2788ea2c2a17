"""That this process lives, and which others have died: the lease under which all that it says in Redis counts."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ...config import Config
from ...store.presence import Presence
from ...store.redis.command_connection import CommandConnection, ConnectionLost
from ...store.redis.errors import state_in
from ...store.replies import read_renewal
from ...store.scripts import Script
from ..loop import Loop

logger = logging.getLogger("jobpush.gateway")

#: Seconds after which Redis is asked again for what it refused: it is loading, or busy.
RETRY_AFTER = 0.5


class Lease:
    """
    The lease of one gateway process.

    Args:
        on_held: Called when all that is true is to be said, for the first time or again; with whether Redis has lost
            data, so that what was said before is no news.
        on_settled: Called when the other gateways have had the time to do the same, after a lease was lost.
    """

    def __init__(
        self,
        loop: Loop,
        link: CommandConnection,
        config: Config,
        *,
        on_held: Callable[[bool], None],
        on_settled: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._link = link
        self._config = config
        self._on_held = on_held
        self._on_settled = on_settled
        #: What makes the calls; another one after the lease was lost.
        self.presence = _new_presence(config)
        #: Whether what is said counts, as far as can be known. While it is in doubt nothing is to be said.
        self.is_held = False
        #: Whether all gateways have said what is true, so that who is missing in Redis is gone.
        self.is_settled = True
        self._settled_at = 0.0
        self._has_begun = False
        #: Of the last renewal; empty before the first.
        self._epoch = ""
        self._is_reaping = False
        #: Whether Redis answers but does not do what it is asked, and whether it is asked again soon.
        self._is_refused = self._is_retrying = False

    @staticmethod
    def scripts(config: Config) -> Sequence[Script]:
        """The scripts that will be called."""
        return _new_presence(config).scripts

    def start(self) -> None:
        """Renew the lease from now on."""
        self._loop.call_later(self._config.lease / 3, self.start)
        if self._link.is_up:
            self._renew()

    def on_link_up(self) -> None:
        """What was on its way when the link broke may be lost, and the lease too."""
        self.is_held = False
        self._is_reaping = False
        self._renew()

    def doubt(self, presence: Presence) -> None:
        """Redis has answered a call that the lease has ended; the answer to a renewal will tell why."""
        if presence is self.presence and self.is_held:
            self.is_held = False
            self._renew()

    def refused(self, error: Exception) -> bool:
        """
        Redis has answered with an error. If it is full, read-only or loading, nothing is said until it is no longer.

        Returns:
            Whether it is; else the error is of the command that was answered.
        """
        if state_in(error) is None:
            return False
        self._wait_until_accepted(error)
        return True

    def tick(self) -> None:
        """Take back what dead gateways have said. Call about once a second."""
        if not self.is_held:
            return
        if not self.is_settled and self._loop.now >= self._settled_at:
            self.is_settled = True
            self._on_settled()
        # Who lost its own lease was cut off itself: the others have time to come back before they count as dead.
        if self.is_settled and not self._is_reaping:
            self._reap()

    def end(self) -> None:
        """Tell that this process ends; those of its connections that come back by then were never away."""
        self._link.run(self.presence.renew(self._known_epoch, seconds=self._config.grace))

    # -- inside --------------------------------------------------------------------------------------

    @property
    def _known_epoch(self) -> str:
        return self._epoch if self._has_begun else ""

    def _renew(self) -> None:
        self._link.run(self.presence.renew(self._known_epoch), partial(self._renewed, self.presence))

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
            logger.warning("Redis does again what the gateway asks")
        has_lost_data = self._epoch not in ("", renewal.epoch)
        self._epoch, self._has_begun = renewal.epoch, True
        if not self.is_held:
            self.is_held = True
            self._on_held(has_lost_data)

    def _wait_until_accepted(self, error: Exception) -> None:
        """What has been refused is said again, with all else, once a renewal is accepted."""
        self.is_held = False
        if not self._is_refused:
            self._is_refused = True
            logger.warning("Redis does not do what the gateway asks, and is asked again: %s", error)
        if not self._is_retrying:
            self._is_retrying = True
            self._loop.call_later(RETRY_AFTER, self._retry)

    def _retry(self) -> None:
        self._is_retrying = False
        if self._link.is_up:
            self._renew()

    def _begin_anew(self) -> None:
        """A lease that has ended does not come back: go on under another id."""
        self.presence = _new_presence(self._config)
        self.is_held = self._has_begun = self.is_settled = False
        self._settled_at = self._loop.now + self._config.lease
        self._renew()

    def _reap(self) -> None:
        self._is_reaping = True
        self._link.run(self.presence.reap(), self._found_dead)

    def _found_dead(self, reply: Any) -> None:
        if isinstance(reply, Exception) or not reply or not self.is_held:
            self._is_reaping = False
            return
        for call in self.presence.retractions(reply):
            self._link.run(call)
        self._reap()


def _new_presence(config: Config) -> Presence:
    return Presence(config, secrets.token_hex(8))
