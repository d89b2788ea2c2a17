"""The Lua scripts that run inside Redis, and how to call many of them in one round trip."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import redis


@dataclass(frozen=True, slots=True)
class Script:
    """Source and SHA-1 of one script; Redis knows it by the latter."""

    source: bytes
    sha: str


@cache
def load(*names: str) -> Script:
    """Read ``<name>.lua``, with the functions that all scripts share, then those of the names before it, in front."""
    folder = resources.files(__package__)
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


def run(client: redis.Redis, calls: Sequence[Call], commands: Sequence[Command] = ()) -> list[Any]:
    """
    Run scripts, then plain commands, in one round trip; in two if Redis does not have a script yet.

    Returns:
        The replies to ``calls`` and to ``commands``, in order.

    Raises:
        redis.RedisError: If a command fails, or the connection does.
    """
    replies = _pipeline(client, [*(call.command() for call in calls), *commands])
    missing = [i for i, reply in enumerate(replies) if isinstance(reply, redis.exceptions.NoScriptError)]
    if missing:
        for script in {calls[i].script for i in missing}:
            client.script_load(script.source)
        again = _pipeline(client, [calls[i].command() for i in missing])
        for i, reply in zip(missing, again, strict=True):
            replies[i] = reply
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def _pipeline(client: redis.Redis, commands: Sequence[Command]) -> list[Any]:
    with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
        return list(pipeline.execute(raise_on_error=False))
