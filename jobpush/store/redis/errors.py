"""Errors that tell how Redis is: the very same command will be done later; and such as tell what is wrong with it."""

from __future__ import annotations

import re

import redis

#: Source: Redis's own error codes. Up to 6.2 an error inside a script stands in the middle of another's text.
_STATE = re.compile(r"(?:^|[\s-])(OOM|READONLY|MISCONF|NOREPLICAS|LOADING|BUSY|MASTERDOWN|CLUSTERDOWN) ")
#: What no command of ours meets but by itself: a key that is somebody else's, or a script that fails on its arguments.
_ITS_OWN = re.compile(r"(?:^|[\s-])WRONGTYPE |user_script:")
#: But this is said in a script and is not the script's: rights that it lacks, and somebody who has ended it.
_OF_OTHERS = re.compile(r"(?:^|[\s-])(NOPERM|NOAUTH) |SCRIPT KILL")


def refusal_in(error: object) -> str | None:
    """The code of the state that an error tells of: ``"OOM"`` if Redis is full; ``None`` for all other errors."""
    found = _STATE.search(str(error)) if isinstance(error, Exception) else None
    return found and found[1]


def is_of_its_own(error: object) -> bool:
    """
    Whether it is the command that is wrong, such as its key's type: it would be refused again, and others are not.

    Only where that is certain: proxies have words of their own for a Redis that is away.
    """
    text = str(error)
    return refusal_in(error) is None and not _OF_OTHERS.search(text) and _ITS_OWN.search(text) is not None


def is_demoted(error: object) -> bool:
    """Whether Redis is a replica now: its successor is to be found under the same address, by another connection."""
    return isinstance(error, redis.ReadOnlyError) or refusal_in(error) == "READONLY"
