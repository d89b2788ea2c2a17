"""``jobpush erase``: remove everything that is stored about a user."""

from __future__ import annotations

import click

from .support.options import connect, json_option, redis_option
from .support.terminal import json_line, printable


@click.command()
@click.argument("user")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
@redis_option
def erase(user: str, yes: bool, is_json: bool) -> None:
    """
    Remove everything that is stored about USER: tasks, logs, inbox, history and presence.

    All connections of USER are closed, and the connection tokens of USER are revoked. The tasks themselves go on: a
    task that still runs is stored again with its next report, so cancel it first.

    \b
    List the tasks first:
      jobpush tasks alice
      jobpush erase alice
    In a script:
      jobpush erase alice --yes --json
    """
    jobpush = connect()
    if any(not task.state.is_final for task in jobpush.tasks(user)):
        note = "some tasks have not ended; they are stored again with their next report (see: jobpush tasks, cancel)"
        click.echo(note, err=True)
    if not yes:
        question = f"Remove all tasks, logs and notifications of {printable(user)}, and close the connections?"
        click.confirm(question, abort=True, err=True)
    count = jobpush.erase(user)
    if is_json:
        click.echo(json_line({"user": user, "tasks": count}))
    else:
        click.echo(f"erased {printable(user)}: {count} task{'' if count == 1 else 's'}, and everything else")
