"""Options that several commands share, and the settings they lead to."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from ...api import JobPush
    from ...config import Config

F = TypeVar("F", bound=Callable[..., Any])


def _set_redis_url(context: click.Context, parameter: click.Parameter, url: str | None) -> None:
    if url:
        os.environ["JOBPUSH_REDIS_URL"] = url  # programs that the command starts read it too


def redis_option(command: F) -> F:
    """Add ``--redis-url``, which overrides JOBPUSH_REDIS_URL."""
    return click.option(
        "--redis-url",
        metavar="URL",
        is_eager=True,
        expose_value=False,
        callback=_set_redis_url,
        help="Redis server to use.  [default: $JOBPUSH_REDIS_URL]",
    )(command)


def json_option(command: F) -> F:
    """Add ``--json``."""
    return click.option("--json", "is_json", is_flag=True, help="Print JSON, one object per line.")(command)


def load_config() -> Config:
    """
    Return the settings of the environment.

    Raises:
        ConfigurationError: If no Redis server is given, or a setting is wrong.
    """
    from ...config import Config
    from ...errors import MissingSetting

    if not os.environ.get("JOBPUSH_REDIS_URL"):
        raise MissingSetting("JOBPUSH_REDIS_URL", "set it, or add --redis-url redis://host:6379/0")
    return Config.load({}, {})


def connect() -> JobPush:
    """Return a :class:`JobPush` for the settings of the environment; see :func:`load_config`."""
    from ...api import JobPush

    load_config()
    return JobPush()
