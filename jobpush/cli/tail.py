"""``jobpush tail``: follow the events of a user."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from .support.options import json_option, load_config, redis_option
from .support.terminal import COLOURS, clock, json_line, printable, readable_json, summary

if TYPE_CHECKING:
    from rich.text import Text

    from ..store.user_events import UserEvent

_LEVEL_COLOURS = {"warning": "yellow", "error": "red", "critical": "red"}


@click.command()
@click.argument("user")
@click.option("--logs", is_flag=True, help="Show the lines of the tasks' logs too.")
@json_option
@redis_option
def tail(user: str, logs: bool, is_json: bool) -> None:
    """
    Show the messages that the browsers of USER receive: a snapshot of each task, then every event.

    With --logs, the lines of a task's log that are kept follow its snapshot, and new ones appear as the task writes
    them.

    \b
    For people:
      jobpush tail alice
    With the log lines of the tasks:
      jobpush tail alice --logs
    For programs:
      jobpush tail alice --json | jq 'select(.data.state == "FAILURE")'
    """
    from ..store.user_events import listen

    if not is_json:
        from rich.console import Console

        console = Console(highlight=False, soft_wrap=True)
    with suppress(KeyboardInterrupt):
        for event in listen(load_config(), user, with_logs=logs):
            if is_json:
                click.echo(json_line({"event": event.event, "data": event.data}))
            else:
                console.print(_line(event))


def _line(received: UserEvent) -> Text:
    """Return an event as one line. Untrusted text is shown as text, never as markup."""
    from rich.text import Text

    task, line = received.task, received.line
    if line is not None:
        level = (f"{printable(line.level):<9}", _LEVEL_COLOURS.get(line.level, "dim"))
        return Text.assemble((f"{clock(line.at)}  ", "dim"), level, f"  {printable(line.message)}")
    if task is None:
        parts = (f"{clock(time.time())}  ", "dim"), printable(received.event), "  ", readable_json(received.data)
        return Text.assemble(*parts)
    state = (f"{task.state.value:<9}", COLOURS.get(task.state.value, "cyan"))
    return Text.assemble((f"{clock(task.at)}  ", "dim"), state, f"  {summary(task)}")
