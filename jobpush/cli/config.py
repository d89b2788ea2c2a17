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
    environment, defaults = Config.load({}, {}), Config()
    effective = apps.gateway_config or apps.worker_config or environment
    for name in Config.__dataclass_fields__:
        value = getattr(effective, name)
        if variable_of(name) in os.environ and getattr(environment, name) == value:
            source = "environment"
        elif value != getattr(defaults, name):
            source = "application"
        elif is_all or is_json:
            source = "default"
        else:
            continue
        row = {"name": variable_of(name), "value": _masked(name, value), "source": source}
        click.echo(json_line(row) if is_json else _line(row))
    for name, hint in unknown_variables().items():
        click.echo(f"{name} is ignored: there is no such setting; {hint}", err=True)


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
