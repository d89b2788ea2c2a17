"""
The Lua scripts that run inside Redis: their keys and arguments by name.

Each script is declared once, below. A generated prelude gives it the ranks of :mod:`jobpush.lifecycle` as constants,
each key as ``<name>_key``, and each argument under its own name; ``name:number`` and ``name:flag`` convert it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from operator import itemgetter
from typing import TypeAlias

from ..lifecycle import TaskState

#: One word of a Redis command.
Word: TypeAlias = str | bytes | int | float
#: The words of one Redis command.
Command: TypeAlias = Sequence[Word]

_CONVERSIONS = {"": "{}", "number": "tonumber({})", "flag": "{} == '1'"}


class Script:
    """
    One script.

    Args:
        name: Its file below ``lua``.
        keys: Names of its keys.
        arguments: Names of its other arguments.
        libraries: Files inserted before it, after ``lib``.
        module: A file that returns a table of functions. ``load_<module>()`` runs it, so a call that does not need
            its functions does not create them.
        rest: Name of the list of all further arguments.
        variables: Further names of the libraries; the script itself sets them.
    """

    def __init__(
        self,
        name: str,
        keys: str,
        arguments: str = "",
        libraries: Sequence[str] = (),
        *,
        module: str = "",
        rest: str = "",
        variables: str = "",
    ) -> None:
        self.name = name
        self.keys = tuple(keys.split())
        self._declared = arguments.split()
        self.arguments = tuple(item.partition(":")[0] for item in self._declared)
        #: Returns the arguments in order.
        self._values: Callable[[dict[str, Word]], Sequence[Word]] = (
            itemgetter(*self.arguments) if len(self.arguments) > 1 else lambda given: list(given.values())
        )
        self._rest = rest
        self._variables = variables.split()
        self._libraries = ("lib", *libraries)
        self._module = module

    def __call__(self, keys: Sequence[str], rest: Sequence[Word] = (), /, **arguments: Word) -> Call:
        """Return a call with the keys in order, all arguments by name, and the ``rest`` behind them."""
        if len(keys) != len(self.keys) or len(arguments) != len(self.arguments):
            raise TypeError(f"{self.name}.lua takes the keys {self.keys} and the arguments {self.arguments}")
        return Call(self, keys, [*self._values(arguments), *rest])

    @cached_property
    def source(self) -> bytes:
        """The complete script."""
        return self._source("PUBLISH")

    @cached_property
    def sha(self) -> str:
        """Redis' name of the script."""
        return _sha(self.source)

    @cached_property
    def sharded(self) -> tuple[bytes, str]:
        """Source and SHA-1 of the variant for Redis Cluster, with sharded pub/sub."""
        source = self._source("SPUBLISH")
        return source, _sha(source)

    def _source(self, publish: str) -> bytes:
        names = [f"local {name}_key = KEYS[{index}]" for index, name in enumerate(self.keys, 1)]
        for index, item in enumerate(self._declared, 1):
            name, _, kind = item.partition(":")
            names.append(f"local {name} = {_CONVERSIONS[kind].format(f'ARGV[{index}]')}")
        if self._rest:
            names.append(f"local {self._rest} = {{unpack(ARGV, {len(self._declared) + 1})}}")
        if self._variables:
            names.append(f"local {', '.join(self._variables)}")
        parts = [*map(_read, self._libraries)]
        if self._module:
            names.append(f"local load_{self._module}")
            parts.append(f"function load_{self._module}()\n{_read(self._module)}end")
        text = "\n".join([*names, *parts, _read(self.name)])
        return f"{constants(text, publish)}\n{text}".encode()


def constants(text: str, publish: str) -> str:
    """Return the Lua constants that a script uses: ranks, the rank of each state, and the command that publishes."""
    ranks = {state.name: state.rank for state in TaskState if state.rank < TaskState.SUCCESS.rank}
    ranks["TERMINAL"] = TaskState.SUCCESS.rank
    of_states = ", ".join(f"{state.name} = {state.rank}" for state in TaskState)
    values = {**ranks, "RANK_OF": f"{{{of_states}}}", "PUBLISH": f"'{publish}'"}
    return "\n".join(f"local {name} = {value}" for name, value in values.items() if re.search(rf"\b{name}\b", text))


def _read(name: str) -> str:
    return (resources.files(__package__) / "lua" / f"{name}.lua").read_text("utf-8")


def _sha(source: bytes) -> str:
    return hashlib.sha1(source, usedforsecurity=False).hexdigest()


@dataclass(slots=True)
class Call:
    """One call of a script: its keys, then its other arguments."""

    script: Script
    keys: Sequence[str]
    arguments: Sequence[Word]

    def command(self) -> tuple[Word, ...]:
        """Return the words of the Redis command."""
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.arguments)


#: An item of a round trip.
Request: TypeAlias = Call | Command


# -- tasks -------------------------------------------------------------------------------------------

_HISTORY = " history_size:number history_ttl"


def _task_script(name: str, arguments: str) -> Script:
    """Return a script that changes a task."""
    arguments += " final_ttl:number" + _HISTORY
    return Script(
        name, "task tasks topic stream floor", arguments, ("stream", "snapshot", "lifecycle"), module="workflow"
    )


PUBLISH = _task_script(
    "publish",
    "task_id state pinned published_at:number retry_number:number delivery is_handed_over:flag at known_seq:number"
    " volatile_json stable_json ttl:number max_tasks:number workflow_id membership bare_json",
)
END = _task_script("end", "task_id state delivery least at volatile_json ttl:number bare_json")
REGAIN = _task_script("regain", "task_id delivery at volatile_json ttl:number")
CANCEL = _task_script("cancel", "task_id at bare_json")
PUBLISH_WORKFLOW = _task_script("publish_workflow", "task_id at is_urgent:flag")
OWN = Script("own", "owner", "user_id ttl:number")
HISTORY = Script(
    "history",
    "stream floor source",
    "kind since task_prefix start:number limit:number history_ttl",
    ("stream", "snapshot"),
)
APPEND_LOG = Script(
    "append_log",
    "log log_state task topic",
    "task_id dropped:number max_lines:number max_bytes:number ttl",
    rest="lines",
)
TRIGGER = Script("trigger", "topic stream floor connections cache", "header members cache_ttl" + _HISTORY, ("stream",))

KEEP_INBOX = Script("keep_inbox", "inbox inbox_states topic", "item ttl:number max_items:number")
MARK_INBOX = Script("mark_inbox", "inbox inbox_states topic", "state ttl after limit", rest="ids")
ERASE_TASKS = Script("erase_tasks", "tasks", "task_prefix limit:number")

# -- presence ----------------------------------------------------------------------------------------

_PRESENCE = ("presence",)
_BUCKET_KEYS = "claims tombstone webhooks"
_STATEMENT = "gateway_id topic has_webhooks:flag"

OCCUPY = Script(
    "occupy",
    _BUCKET_KEYS + " connections channels topic published_count floor",
    _STATEMENT + " channel count:number is_quiet:flag is_counted:flag history_left:number",
    ("presence", "connections"),
)
ONLINE = Script(
    "online",
    _BUCKET_KEYS + " connections users watch floor subscribed",
    _STATEMENT + " user_id count:number subscribed:number is_quiet:flag history_left:number",
    ("presence", "connections"),
)
JOIN = Script(
    "join",
    _BUCKET_KEYS + " members topic members_seq",
    _STATEMENT + " channel user_id user_info is_quiet:flag max_members:number",
    ("presence", "members"),
)
LEAVE = Script(
    "leave", _BUCKET_KEYS + " members topic members_seq", _STATEMENT + " channel user_id", ("presence", "members")
)
RETRACT = Script(
    "retract",
    _BUCKET_KEYS + " channels users",
    "gateway_id has_webhooks:flag base database keeps_last:flag counts_subscriptions:flag history_ttl:number"
    " public_history_left:number",
    ("presence", "connections", "members"),
    rest="claims",
    variables="topic channel user_id count subscribed is_quiet is_counted history_left connections_key topic_key"
    " floor_key published_count_key watch_key subscribed_key members_key members_seq_key",
)
ROSTER = Script("roster", "members members_seq")
PUBLISH_WEBHOOK_EVENTS = Script("publish_webhook_events", "webhooks", "event has_webhooks:flag", _PRESENCE)
BURY = Script("bury", "claims tombstone", "limit ttl")

# -- leases ------------------------------------------------------------------------------------------

RENEW = Script("renew", "gateways epoch layout", "gateway_id seconds:number known_epoch layout", _PRESENCE)
LIVE = Script("live", "gateways", libraries=_PRESENCE)
FIND_DEAD = Script("find_dead", "gateways reaper", "gateway_id milliseconds", _PRESENCE)
FORGET_DEAD = Script("forget_dead", "leases", "holder", _PRESENCE)
HOLD = Script("hold", "workers", "worker_id seconds:number begins:flag", _PRESENCE)
DEAD_WORKERS = Script("dead_workers", "workers", libraries=_PRESENCE)

#: The scripts that a gateway calls.
GATEWAY_SCRIPTS: Sequence[Script] = (
    *(HISTORY, OCCUPY, ONLINE, JOIN, LEAVE, ROSTER, PUBLISH_WEBHOOK_EVENTS),
    *(RENEW, FIND_DEAD, BURY, RETRACT, FORGET_DEAD, DEAD_WORKERS, END),
)
