"""Errors that tell how Redis is, not what is wrong with a command: the very same one will be done again, later."""

from __future__ import annotations

import re

import redis

#: Source: Redis's own error codes. Up to 6.2 an error inside a script stands in the middle of another's text.
_STATE = re.compile(r"(?:^|[\s-])(OOM|READONLY|MISCONF|NOREPLICAS|LOADING|BUSY|MASTERDOWN|CLUSTERDOWN) ")


def refusal_in(error: object) -> str | None:
    """The code of the state that an error tells of: ``"OOM"`` if Redis is full; ``None`` for all other errors."""
    found = _STATE.search(str(error)) if isinstance(error, Exception) else None
    return found and found[1]


def is_demoted(error: object) -> bool:
    """Whether Redis is a replica now: its successor is to be found under the same address, by another connection."""
    return isinstance(error, redis.ReadOnlyError) or refusal_in(error) == "READONLY"
