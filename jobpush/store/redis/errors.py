"""Classification of the errors of Redis."""

from __future__ import annotations

import re

import redis
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    OutOfMemoryError,
    ReadOnlyError,
)

from ...errors import CommandRefused, StoreError

#: Source: the error codes of Redis. Up to 6.2 an error inside a script is in the middle of another error's text.
_STATE = re.compile(r"(?:^|[\s-])(OOM|READONLY|MISCONF|NOREPLICAS|LOADING|BUSY|MASTERDOWN|CLUSTERDOWN) ")
#: Codes that redis-py drops from the text of an error, because it has a class for it; derived classes first.
_CODE_OF_CLASS: dict[type[redis.RedisError], str] = {
    OutOfMemoryError: "OOM",
    ReadOnlyError: "READONLY",
    BusyLoadingError: "LOADING",
    MasterDownError: "MASTERDOWN",
    ClusterDownError: "CLUSTERDOWN",
    MovedError: "MOVED",
    AskError: "ASK",
}
#: Errors caused by the command itself: a key of another type, or a script that fails on its arguments.
_OF_COMMAND = re.compile(r"(?:^|[\s-])WRONGTYPE |user_script:")
#: Errors inside a script that the script does not cause: missing rights (with separate texts in 7.0), and a kill by an
#: operator.
_RIGHTS = re.compile(
    r"(?:^|[\s-])NOPERM |ACL failure in script|The user executing the script can't|has no permissions|No permissions to"
)
_KILLED = re.compile(r"SCRIPT KILL")
_SIGN_IN = re.compile(r"(?:^|[\s-])(NOAUTH|WRONGPASS) |invalid username-password pair|Authentication required")
_WRONG_SERVER = re.compile(r"(?:^|[\s-])(READONLY|MOVED|ASK) ")

_HINTS = (
    (
        re.compile(r"(?:^|[\s-])READONLY |is a replica|against a read only replica"),
        "this server is a replica; JOBPUSH_REDIS_URL must name the primary, or Sentinels (redis+sentinel://…)",
    ),
    (
        re.compile(r"^(MOVED|ASK) |Script attempted to access .* non local key"),
        "this server is part of a cluster; use redis+cluster://…",
    ),
    (_SIGN_IN, "check user and password in JOBPUSH_REDIS_URL"),
    (
        re.compile(r"Hash slot not served|The cluster is down|no primary has slot"),
        "the cluster is incomplete: CLUSTER SHARDS shows which slots have no primary",
    ),
    (
        re.compile(r"CERTIFICATE_VERIFY_FAILED.*(mismatch|not valid for)", re.IGNORECASE),
        "the certificate of the server has another name: connect to that name, or set ssl_check_hostname=false",
    ),
    (
        re.compile(r"CERTIFICATE_VERIFY_FAILED"),
        "the certificate of the server is not trusted: ssl_ca_certs must be the file of the authority that issued it",
    ),
    (
        re.compile(
            r"alert (certificate required|bad certificate|unknown ca|handshake failure)|EOF occurred in violation"
        ),
        "the server ended TLS: it may need a client certificate (ssl_certfile, ssl_keyfile) of its own authority",
    ),
    (
        re.compile(r"connecting to [^/\s]+:\d+\. (No such file|\[X509|\[SSL\] PEM|\[PEM)|KEY_VALUES_MISMATCH|PEM lib"),
        "a file of ssl_ca_certs, ssl_certfile or ssl_keyfile is missing or not in PEM format, or the key does not fit",
    ),
    (re.compile(r"WRONG_VERSION_NUMBER|wrong version number"), "this port has no TLS: use redis://"),
    (re.compile(r"(?:^|[\s-])OOM |used memory > 'maxmemory'"), "Redis is full: raise maxmemory"),
)
_HINT_CHANNELS = "the Redis user has no right to its channels: ACL SETUSER … &<JOBPUSH_PREFIX>:*"
_HINT_RIGHTS = "the Redis user lacks a right; it needs ~<JOBPUSH_PREFIX>:* and &<JOBPUSH_PREFIX>:*"
_HINT_COMMAND = "the Redis user lacks a right: ACL SETUSER … +{}; docker/acl has the commands of each role"
#: The command that the Redis user may not run, where the error names it.
_REFUSED_COMMAND = re.compile(r"run the '([^']+)' command")


def _text_of(error: object) -> str:
    """Return the text of an error, with its code."""
    code = next((code for kind, code in _CODE_OF_CLASS.items() if isinstance(error, kind)), None)
    return f"{code} {error}" if code else str(error)


def state_in(error: object) -> str | None:
    """Return the code of a state of Redis in which the same command works later: ``"OOM"`` if it is full."""
    found = _STATE.search(_text_of(error)) if isinstance(error, Exception) else None
    return found[1] if found else None


def is_unserved_slot(error: object) -> bool:
    """Return whether one slot of a cluster has no primary, which affects no other slot."""
    return "Hash slot not served" in str(error)


def is_command_error(error: object) -> bool:
    """
    Return whether the command itself is wrong: Redis would refuse it again, but accepts others.

    Only if that is certain: proxies have their own texts for an unreachable Redis.
    """
    text = _text_of(error)
    others = (_STATE, _RIGHTS, _SIGN_IN, _KILLED)
    return bool(_OF_COMMAND.search(text)) and not any(other.search(text) for other in others)


def is_missing_right(error: object) -> bool:
    """Return whether the Redis user may not do this; also for errors inside a script."""
    return isinstance(error, Exception) and bool(_RIGHTS.search(str(error)))


def is_wrong_server(error: object) -> bool:
    """Return whether the server is a replica now, or holds other slots: another connection finds the right one."""
    return isinstance(error, Exception) and bool(_WRONG_SERVER.search(_text_of(error)))


def advice(error: object) -> str | None:
    """Return the remedy for an error, if known."""
    text = _text_of(error)
    if is_missing_right(error):
        if command := _REFUSED_COMMAND.search(text):
            return _HINT_COMMAND.format(command[1])
        if "this command or subcommand" in text:
            return _HINT_COMMAND.format("<a command of jobpush's scripts>")
        return _HINT_CHANNELS if "channel" in text else _HINT_RIGHTS
    return next((hint for pattern, hint in _HINTS if pattern.search(text)), None)


def explain(error: object) -> str:
    """Return the text of an error, with the remedy if known."""
    text, hint = str(error) or type(error).__name__, advice(error)
    return f"{text} ({hint})" if hint else text


class ShardUnavailable(StoreError):
    """One primary of a cluster is unreachable or refuses commands, and others work; see :meth:`RedisClient.run`."""

    code = "shard_unavailable"


def as_store_error(error: redis.RedisError) -> StoreError:
    """Convert an error of redis-py."""
    kind = CommandRefused if is_command_error(error) else StoreError
    return kind(f"Redis refused a command or is unreachable: {explain(error)}")
