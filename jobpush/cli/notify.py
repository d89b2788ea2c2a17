"""``jobpush notify``: send an event to a user."""

from __future__ import annotations

import json

import click

from .support.options import connect, redis_option


@click.command()
@click.argument("user")
@click.argument("event")
@click.argument("data", metavar="JSON")
@click.option("--require-receiver", is_flag=True, help="Exit with status 1 if no connection received the event.")
@redis_option
def notify(user: str, event: str, data: str, require_receiver: bool) -> None:
    """
    Send EVENT with the data JSON to all browsers of USER.

    \b
    Send a greeting:
      jobpush notify alice greeting '{"text": "hello"}'
    Fail if Alice is not connected:
      jobpush notify alice greeting '{"text": "hello"}' --require-receiver
    """
    try:
        content = json.loads(data)
    except ValueError as exc:
        raise click.BadParameter(f'{exc}; quote it, as in \'{{"text": "hello"}}\'', param_hint="JSON") from exc
    count = connect().notify(user, event, content).connections
    if count:
        click.echo(f"sent to {count} connection{'' if count == 1 else 's'}")
        return
    click.echo("sent, but no connection received it", err=require_receiver)
    if require_receiver:
        raise click.exceptions.Exit(1)
