"""``jobpush webhooks``: webhook deliveries that were given up."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from .support.options import json_option, load_config, redis_option
from .support.terminal import json_line, printable

if TYPE_CHECKING:
    from rich.table import Table

    from ..store.webhooks import GivenUp


@click.command()
@click.option("--retry", "is_retry", is_flag=True, help="Put all of them back into the queue.")
@json_option
@redis_option
def webhooks(is_json: bool, is_retry: bool) -> None:
    """
    List the webhook deliveries that were given up, newest first.

    A delivery is given up when its endpoint is no longer configured, or failed for a day.

    \b
    List them:
      jobpush webhooks
    Send them again once the endpoint works:
      jobpush webhooks --retry
    """
    from ..store.webhooks import WebhookStore

    with closing(WebhookStore(load_config())) as store:
        if is_retry:
            click.echo(f"put back into the queue: {store.retry_given_up()}")
            return
        given_up = store.given_up()
    if is_json:
        for one in given_up:
            click.echo(json_line(asdict(one)))
    elif given_up:
        from rich.console import Console

        Console(highlight=False).print(_table(given_up))
    else:
        click.echo("no webhook was given up")


def _table(given_up: Iterable[GivenUp]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("when", "endpoint", "events", "tries", "reason", box=None, pad_edge=False)
    for one in given_up:
        kinds = Counter(str(event.get("name")) for event in one.delivery.events)
        events = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.at))
        row = (when, one.delivery.endpoint, events, str(one.tries), one.reason)
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table
