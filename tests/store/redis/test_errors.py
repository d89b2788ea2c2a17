"""Which errors of Redis are caused by a command, and what the text of an error recommends."""

from __future__ import annotations

import hiredis
import pytest
import redis
from redis import ResponseError
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)

from jobpush.errors import CommandRefused, StoreError
from jobpush.store.redis.command_connection import ignore_reply
from jobpush.store.redis.errors import (
    as_store_error,
    explain,
    is_command_error,
    is_missing_right,
    is_wrong_server,
    state_in,
)

#: The text of an error inside a script, in Redis up to 6.2 and in Redis 7.
_OLD = "Error running script (call to f_1): @user_script:7: @user_script: 7: -{}"
_NEW = "{} script: 1, on @user_script:7."


@pytest.mark.parametrize(
    "text",
    [
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        _OLD.format("WRONGTYPE Operation against a key holding the wrong kind of value"),
        _NEW.format("WRONGTYPE Operation against a key holding the wrong kind of value"),
        "Error running script (call to f_1): @user_script:7: user_script:7: attempt to compare nil with number",
    ],
)
def test_error_of_the_command_itself(text: str) -> None:
    assert is_command_error(ResponseError(text))


@pytest.mark.parametrize(
    "text",
    [
        "OOM command not allowed when used memory > 'maxmemory'.",
        _OLD.format("OOM command not allowed when used memory > 'maxmemory'."),
        _NEW.format("OOM command not allowed when used memory > 'maxmemory'."),
        _OLD.format("READONLY You can't write against a read only replica."),
        "NOPERM this user has no permissions to run the 'evalsha' command",
        _NEW.format("NOPERM this user has no permissions to access one of the keys used as arguments"),
        "Error running script (call to f_1): @user_script:7: Script killed by user with SCRIPT KILL...",
        "LOADING Redis is loading the dataset in memory",
        "ERR Connection refused",
        _NEW.format("The user executing the script can't publish to the channel mentioned in the command"),
        _NEW.format("ACL failure in script: No permissions to access a channel"),
    ],
)
def test_server_state_or_missing_right_is_not_a_command_error(text: str) -> None:
    assert not is_command_error(ResponseError(text))


@pytest.mark.parametrize(
    "error",
    [
        ResponseError("NOPERM No permissions to access a channel"),
        redis.exceptions.NoPermissionError("this user has no permissions to access one of the channels"),
        ResponseError(_NEW.format("The user executing the script can't publish to the channel mentioned")),
        ResponseError(_NEW.format("ACL failure in script: User w has no permissions to access the 'c' channel")),
    ],
)
def test_missing_right_to_channels_is_named(error: Exception) -> None:
    assert is_missing_right(error)
    assert "&<JOBPUSH_PREFIX>:*" in explain(error)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (ReadOnlyError("You can't write against a read only replica."), "must name the primary"),
        (ResponseError("READONLY You can't write against a read only replica."), "must name the primary"),
        (MovedError("12 10.0.0.1:7000"), "redis+cluster://"),
        (ResponseError("MOVED 12 10.0.0.1:7000"), "redis+cluster://"),
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "raise maxmemory"),
        (ClusterDownError("Hash slot not served"), "the cluster is incomplete"),
        (ResponseError("CLUSTERDOWN The cluster is down"), "the cluster is incomplete"),
        (ResponseError("WRONGPASS invalid username-password pair or user is disabled."), "check user and password"),
        (ResponseError("NOPERM User w has no permissions to run the 'set' command"), "ACL SETUSER … +set"),
        (ResponseError("NOPERM this user has no permissions to run the 'script|load' command"), "+script|load"),
        (ResponseError("The user executing the script can't run this command or subcommand script: f0"), "docker/acl"),
        (ResponseError("NOPERM this user has no permissions to access one of the keys"), "needs ~<JOBPUSH_PREFIX>:*"),
    ],
)
def test_error_text_names_the_remedy(error: Exception, advice: str) -> None:
    assert advice in explain(error)


def test_reply_of_a_server_that_is_not_the_primary_is_a_wrong_server_error() -> None:
    assert is_wrong_server(ReadOnlyError("You can't write against a read only replica."))
    assert is_wrong_server(MovedError("12 10.0.0.1:7000"))
    assert is_wrong_server(ResponseError("READONLY You can't write against a read only replica."))
    assert not is_wrong_server(ResponseError("OOM command not allowed"))


@pytest.mark.parametrize(
    ("error", "kind"), [(ResponseError("WRONGTYPE Operation"), CommandRefused), (redis.ConnectionError(), StoreError)]
)
def test_errors_of_redis_py_become_store_errors(error: RedisError, kind: type[StoreError]) -> None:
    assert type(as_store_error(error)) is kind


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OutOfMemoryError, "OOM"),
        (ReadOnlyError, "READONLY"),
        (BusyLoadingError, "LOADING"),
        (MasterDownError, "MASTERDOWN"),
        (ClusterDownError, "CLUSTERDOWN"),
    ],
)
def test_server_state_with_its_own_redis_py_class_is_not_a_command_error(error: type[RedisError], code: str) -> None:
    refused = error("command not allowed. script: f49df598b77c9361, on @user_script:68.")

    assert state_in(refused) == code
    assert not is_command_error(refused)


def test_refused_command_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    for command in ("first", "second") * 5:
        ignore_reply(hiredis.ReplyError(f"NOPERM this user has no permissions to run the '{command}' command"))
    ignore_reply(b"OK")
    ignore_reply(hiredis.ReplyError("OOM command not allowed"))

    assert [record.getMessage().count("+second") for record in caplog.records] == [0, 1]
