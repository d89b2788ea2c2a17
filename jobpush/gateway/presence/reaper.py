"""Retracts the statements of gateways with an expired lease."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from ...store.keys import bucket_tags, tag_of
from ...store.malformed import malformed
from ...store.presence import Presence
from ...store.redis.command_connection import Commands


class Reaper:
    """Buries dead gateways bucket by bucket, while Redis has elected this process as the reaper."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        #: Buckets still to be buried, by dead gateway.
        self._left: dict[str, int] = {}
        #: Those with a bucket on a primary that fails: the next look finds them again.
        self._failed: set[str] = set()

    def look(self, presence: Presence) -> None:
        """Look for dead gateways, unless burials are under way. Call about once a second while the lease is held."""
        if not self._left:
            self._commands.run(presence.find_dead(), lambda reply: self._found(presence, reply))

    def reset(self) -> None:
        """Forget burials under way: the connection to Redis, or the lease, is lost."""
        self._left.clear()
        self._failed.clear()

    def _found(self, presence: Presence, reply: Any) -> None:
        if isinstance(reply, Exception) or self._left:
            return
        for gateway_id in malformed.read("leases of gateways", reply, bytes.decode):
            self._left[gateway_id] = len(bucket_tags())
            for tag in bucket_tags():
                self._bury(presence, gateway_id, tag)

    def _bury(self, presence: Presence, gateway_id: str, tag: str) -> None:
        self._commands.run(presence.bury(gateway_id, tag), lambda reply: self._buried(presence, gateway_id, tag, reply))

    def _buried(self, presence: Presence, gateway_id: str, tag: str, claims: Any) -> None:
        if gateway_id not in self._left:
            return
        if claims and not isinstance(claims, Exception):
            # Retract them, then look for more: a gateway is forgotten only if none is left in any bucket.
            valid = malformed.read("claims of gateways", claims, partial(_checked_claim, tag))
            if len(valid) < len(claims):  # no retraction removes those, so they would be found again
                self._commands.call(presence.drop_claims(gateway_id, tag, set(claims) - set(valid)))
            call = presence.retract(gateway_id, tag, valid)
            self._commands.run(call, lambda reply: self._retracted(presence, gateway_id, tag, reply))
        else:
            self._end_bucket(presence, gateway_id, has_failed=bool(claims))

    def _retracted(self, presence: Presence, gateway_id: str, tag: str, reply: Any) -> None:
        if gateway_id not in self._left:
            return
        if isinstance(reply, Exception):
            self._end_bucket(presence, gateway_id, has_failed=True)
        else:
            self._bury(presence, gateway_id, tag)

    def _end_bucket(self, presence: Presence, gateway_id: str, *, has_failed: bool) -> None:
        if has_failed:
            self._failed.add(gateway_id)
        self._left[gateway_id] -= 1
        if not self._left[gateway_id]:
            del self._left[gateway_id]
            if gateway_id not in self._failed:
                self._commands.run(presence.forget_dead(gateway_id))
            self._failed.discard(gateway_id)


def _checked_claim(tag: str, claim: bytes) -> bytes:
    """Return a claim of a bucket; raise ``ValueError`` if jobpush did not write it."""
    match = re.fullmatch(r"[a-z]+:(\S+)(?: .+)?", claim.decode())
    if match is None or tag_of(match[1]) != tag:
        raise ValueError(f"{claim!r} is not a claim of a gateway")
    return claim
