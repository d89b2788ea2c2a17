"""``jobpush tasks`` and ``jobpush cancel``."""

from __future__ import annotations

import click

from .support.options import connect, json_option, load_config, redis_option
from .support.terminal import COLOURS, clock, json_line, printable, summary


@click.command()
@click.argument("user")
@json_option
@redis_option
def tasks(user: str, is_json: bool) -> None:
    """
    List the tasks of USER: running ones first, then waiting, then ended ones, each newest first.

    \b
    For people:
      jobpush tasks alice
    The ids of all that failed:
      jobpush tasks alice --json | jq -r 'select(.state == "FAILURE").task_id'
    """
    from ..channels import checked_user_id
    from ..store import Store

    task = None
    for task in Store(load_config()).all_tasks(checked_user_id(user)):
        if is_json:
            click.echo(json_line(task.to_wire()))
            continue
        state = click.style(f"{task.state.value:<9}", fg=COLOURS.get(task.state.value, "cyan"))
        click.echo(f"{printable(task.task_id)}  {clock(task.at)}  {state}  {summary(task)}")
    if task is None and not is_json:
        click.echo("no tasks", err=True)


@click.command()
@click.argument("task_id", metavar="ID")
@redis_option
def cancel(task_id: str) -> None:
    """
    Cancel the task ID, or all tasks of a workflow.

    A waiting task never starts. A running task is asked to stop, and terminated after JOBPUSH_CANCEL_GRACE seconds.

    \b
    Cancel a task of Alice's list:
      jobpush cancel 0b0d2a4e-6f3b-4b8e-9d8c-0a4de1f3c111
    """
    state = connect().cancel(task_id)
    if state.value == "REVOKED":
        click.echo("cancelled")
    elif state.is_final:
        click.echo(f"too late: the task has ended with {state.value}")
    else:
        click.echo(f"cancel requested; the task is {state.value}")
