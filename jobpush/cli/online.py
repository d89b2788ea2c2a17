"""``jobpush online`` and ``jobpush channels``."""

from __future__ import annotations

import click

from .support.options import connect, json_option, redis_option
from .support.terminal import json_line, printable


@click.command()
@json_option
@redis_option
def online(is_json: bool) -> None:
    """
    List the users that are connected, on any gateway.

    \b
    All of them:
      jobpush online
    Their number:
      jobpush online | wc -l
    """
    for user in connect().online_users():
        click.echo(json_line({"user": user}) if is_json else printable(user))


@click.command()
@click.argument("prefix", default="")
@json_option
@redis_option
def channels(prefix: str, is_json: bool) -> None:
    """
    List the channels that have subscribers and begin with PREFIX, with their numbers of connections and members.

    \b
    All channels:
      jobpush channels
    Presence channels:
      jobpush channels presence-
    """
    found = connect().channels(prefix)
    width = max(map(len, found), default=0)
    for name, info in found.items():
        if is_json:
            numbers = {"subscription_count": info.subscription_count, "user_count": info.user_count}
            click.echo(json_line({"channel": name, **numbers}))
        else:
            members = f", {info.user_count} members" if name.startswith("presence-") else ""
            click.echo(f"{printable(name):<{width}}  {info.subscription_count} connections{members}")
