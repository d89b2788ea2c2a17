"""The Lua scripts that run inside Redis, and calls of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True, slots=True)
class Script:
    """Source and SHA-1 of one script; Redis knows it by the latter."""

    source: bytes
    sha: str


@cache
def load(*names: str) -> Script:
    """Read ``<name>.lua``, with the functions that all scripts share, then those of the names before it, in front."""
    folder = resources.files(__package__) / "lua"
    source = b"".join(folder.joinpath(f"{name}.lua").read_bytes() for name in ("lib", *names))
    return Script(source, hashlib.sha1(source, usedforsecurity=False).hexdigest())


def load_of_task(name: str) -> Script:
    """A script that changes a task: in front of it the machine of a task's life, and the bar of its workflow."""
    return load("workflow", "lifecycle", name)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a script: its keys, then its other arguments."""

    script: Script
    keys: Sequence[str]
    arguments: Sequence[str | bytes | int | float]

    def command(self) -> tuple[str | bytes | int | float, ...]:
        """The words of the Redis command."""
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.arguments)


#: The words of one Redis command.
Command = Sequence[str | bytes | int | float]
