"""Which errors of Redis are about one command alone: what is of its state, or of somebody's rights, is tried again."""

from __future__ import annotations

import pytest
from redis import ResponseError

from jobpush.store.redis.errors import is_of_its_own

#: How Redis up to 6.2 and Redis 7 tell what has gone wrong in a script.
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
def test_what_is_wrong_with_a_command_is_its_own(text: str) -> None:
    assert is_of_its_own(ResponseError(text))


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
    ],
)
def test_what_is_wrong_with_redis_or_who_may_use_it_is_not(text: str) -> None:
    assert not is_of_its_own(ResponseError(text))
