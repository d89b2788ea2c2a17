"""``jobpush config``: the effective settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import click

from .support.options import json_option, redis_option
from .support.terminal import json_line, printable

#: Settings that are shown only as set or not set.
_SECRETS = frozenset(("secret", "previous_secret", "metrics_token"))


@click.command("config")
@click.option("--app", "names", multiple=True, metavar="MODULE:APP", help="Flask or Celery application.")
@click.option("--all", "is_all", is_flag=True, help="Show the defaults too.")
@json_option
@redis_option
def config(names: tuple[str, ...], is_all: bool, is_json: bool) -> None:
    """
    Show the effective settings, and where each comes from. Secrets are masked.

    \b
    What the environment sets:
      jobpush config
    Every setting of an application:
      jobpush config --app shop.web:app --all
    """
    from ..config import Config, unknown_variables, variable_of
    from .diagnosis import Applications

    apps = Applications.load(names)
    effective = apps.gateway_config or apps.worker_config or Config.load({}, {})
    defaults = Config()
    for name in Config.__dataclass_fields__:
        value = getattr(effective, name)
        source = _source(name, value, getattr(defaults, name), variable_of(name))
        if source == "default" and not is_all and not is_json:
            continue
        row = {"name": variable_of(name), "value": _masked(name, value), "source": source}
        click.echo(json_line(row) if is_json else _line(row))
    for name, nearest in unknown_variables().items():
        hint = f"did you mean {nearest}?" if nearest else "there is no such setting"
        click.echo(f"{name} is ignored; {hint}", err=True)


def _source(name: str, value: Any, default: Any, variable: str) -> str:
    """Return where a value comes from: the environment holds it, or it is the default, or the application sets it."""
    from ..config import Config

    if variable in os.environ and getattr(Config.load({}, {}), name) == value:
        return "environment"
    return "default" if value == default else "application"


def _masked(name: str, value: Any) -> Any:
    from ..store.redis.topology import Topology

    if name in _SECRETS:
        return f"set ({len(value)} characters)" if value else ""
    if name == "redis_url":
        return Topology.parse(value).name if value else ""
    if name == "webhook_urls":
        return [url.partition("?")[0].rpartition("@")[2] for url in value]
    return value


def _line(row: Mapping[str, Any]) -> str:
    value = row["value"]
    text = ",".join(value) if isinstance(value, (list, tuple)) else str(value)
    return f"{row['name']}={printable(text)}  ({row['source']})"
