"""
The command line: each command is a few lines over the public names, and imports what it needs when it runs.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import webbrowser
from collections import Counter
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import ConfigurationError, JobPushError

if TYPE_CHECKING:
    from ..events import TaskEvent
    from ..store.user_events import Heard
    from ..store.webhooks import GivenUp

#: Characters of a bar in the terminal.
_BAR_WIDTH = 20
_LOG_FORMATS = click.Choice(["text", "json"])
#: What a terminal takes as a command, or the beginning of one.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_COLOURS = {"SUCCESS": "green", "FAILURE": "red", "LOST": "red", "REVOKED": "dim", "RETRY": "yellow"}


class _Commands(click.Group):
    """Commands whose known errors are one sentence, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except JobPushError as exc:
            raise click.ClickException(str(exc)) from exc


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="jobpush")
def main() -> None:
    """
    Live progress of Celery tasks in the browser.

    Settings come from the environment; JOBPUSH_REDIS_URL says where Redis is.

    \b
    Try it:
      jobpush demo
    Watch what a user's browser hears, and say something to it:
      jobpush tail alice
      jobpush notify alice greeting '{"text": "hello"}'
    """


@main.command()
@click.option("--bind", default="127.0.0.1:8001", show_default=True, metavar="HOST:PORT", help="Where to listen.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(min=1), help="Processes; one a core.")
@click.option("--log", "log_format", default="text", show_default=True, type=_LOG_FORMATS, help="Lines of the log.")
def gateway(bind: str, workers: int, log_format: str) -> None:
    """
    Serve a gateway of its own, without an application around it.

    It knows users by Pusher's sign-in and by signed channels, and needs JOBPUSH_KEY and JOBPUSH_SECRET.
    What it runs on is gunicorn, whose own settings can be given in GUNICORN_CMD_ARGS.

    \b
    One process on the loopback:
      jobpush gateway
    Behind a load balancer, one process a core:
      jobpush gateway --bind 0.0.0.0:8001 --workers 4 --log json
    """
    from ..config import Config
    from .listener import listen

    Config.load({}, {}).require_credentials()
    host, _, port = bind.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigurationError(f"--bind must be HOST:PORT, not {bind!r}")
    listen(host.strip("[]"), int(port)).close()  # gunicorn would try five times, and log each
    command = [sys.executable, "-m", "gunicorn", "--config", "python:jobpush.gunicorn_conf"]
    os.environ["JOBPUSH_LOG_FORMAT"] = log_format
    # In our place, not below us: signals reach gunicorn as they are meant.
    os.execv(  # noqa: S606 - no shell is wanted
        sys.executable, [*command, "--bind", bind, "--workers", str(workers), "jobpush.gateway:create_app()"]
    )


@main.command()
@click.option("--port", default=8000, show_default=True, help="Port on the loopback; 0 is any free one.")
@click.option("--open/--no-open", "is_open", default=None, help="Open a browser.  [default: where there is a display]")
@click.option("--verbose", "is_verbose", is_flag=True, help="Show what Redis, worker and site have to say.")
def demo(port: int, is_open: bool | None, is_verbose: bool) -> None:
    """
    Run the video uploader with all that it needs.

    Starts a private Redis (or uses JOBPUSH_REDIS_URL), a Celery worker and the site. Ctrl-C ends all of it and
    leaves nothing behind, but for what stands below a JOBPUSH_PREFIX of yours.

    \b
    Somewhere else than on port 8000:
      jobpush demo --port 8080
    """
    from .demo import run

    console = Console(stderr=True)
    with console.status("looking for what is needed") as status:

        def announce(url: str) -> None:
            status.stop()
            click.echo(f"The jobpush demo runs at {url} (Ctrl-C ends it)")
            if is_open if is_open is not None else _has_display():
                webbrowser.open(url)

        run(
            port=port,
            redis_url=os.environ.get("JOBPUSH_REDIS_URL"),
            is_verbose=is_verbose,
            on_step=status.update,
            on_ready=announce,
        )


@main.command()
@click.argument("user")
@click.argument("event")
@click.argument("data", metavar="JSON")
def notify(user: str, event: str, data: str) -> None:
    """
    Send EVENT with the data JSON to all browsers of USER.

    \b
    For example:
      jobpush notify alice greeting '{"text": "hello"}'
    """
    from .. import JobPush

    try:
        content = json.loads(data)
    except json.JSONDecodeError as exc:
        raise click.BadParameter(f'{exc}; quote it, as in \'{{"text": "hello"}}\'', param_hint="JSON") from exc
    receipt = JobPush().notify(user, event, content)
    count = receipt.connections
    click.echo(f"sent to {count} connection{'' if count == 1 else 's'}" if count else "sent, but nobody was there")


@main.command()
@click.argument("user")
@click.option("--json", "is_json", is_flag=True, help="One JSON object a line, for programs.")
def tail(user: str, is_json: bool) -> None:
    """
    Show what the browsers of USER hear: the tasks as they are, then each event as it comes.

    \b
    For the eye:
      jobpush tail alice
    For a program:
      jobpush tail alice --json | jq 'select(.data.state == "FAILURE")'
    """
    from ..config import Config
    from ..store.user_events import listen

    console = Console(highlight=False, soft_wrap=True)
    with suppress(KeyboardInterrupt):  # the one way to end it
        for heard in listen(Config.load({}, {}), user):
            if is_json:
                click.echo(_json({"event": heard.event, "data": heard.data}))
            else:
                console.print(_line(heard))


@main.command()
@click.option("--json", "is_json", is_flag=True, help="One JSON object a line, for programs.")
@click.option("--retry", "is_retry", is_flag=True, help="Send all of them again.")
def webhooks(is_json: bool, is_retry: bool) -> None:
    """
    Show the webhooks that were given up, newest first: their endpoint was gone, or failed for a day.

    \b
    For the eye:
      jobpush webhooks
    When their endpoint is well again:
      jobpush webhooks --retry
    """
    from ..config import Config
    from ..store.webhooks import WebhookStore

    with closing(WebhookStore(Config.load({}, {}))) as store:
        if is_retry:
            click.echo(f"put back into the queue: {store.retry_given_up()}")
            return
        given_up = store.given_up()
    if is_json:
        for one in given_up:
            click.echo(_json(asdict(one)))
    elif given_up:
        Console(highlight=False).print(_table(given_up))
    else:
        click.echo("no webhook was given up")


def _has_display() -> bool:
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _line(heard: Heard) -> Text:
    """One event as a line; everything that came from outside is text, never markup or a terminal's command."""
    if heard.task is None:
        clock = time.strftime("%H:%M:%S")
        return Text.assemble((f"{clock}  ", "dim"), _printable(heard.event), "  ", _json(heard.data))
    task = heard.task
    clock = time.strftime("%H:%M:%S", time.localtime(task.at))
    state = (f"{task.state.value:<9}", _COLOURS.get(task.state.value, "cyan"))
    what = "  ".join(part for part in (task.title or task.name, task.error or task.message, _pace(task)) if part)
    return Text.assemble((f"{clock}  ", "dim"), state, f"  {_bar(task)}  {_printable(what)}")


def _printable(text: str) -> str:
    """A text without what a terminal would take as a command."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def _json(value: object) -> str:
    """JSON in one line; what a terminal would take as a command is escaped in it."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def _bar(task: TaskEvent) -> str:
    if task.percent is None:
        return " " * (_BAR_WIDTH + 5)
    filled = round(task.percent / 100 * _BAR_WIDTH)
    return f"{'━' * filled}{'─' * (_BAR_WIDTH - filled)} {task.percent:>3.0f}%"


def _pace(task: TaskEvent) -> str:
    if task.state.is_final or task.rate is None:
        return ""
    left = f", {task.eta:.0f} s left" if task.eta is not None else ""
    return f"({task.rate:.1f}/s{left})"


def _table(given_up: Iterable[GivenUp]) -> Table:
    table = Table("when", "endpoint", "events", "tries", "why", box=None, pad_edge=False)
    for one in given_up:
        delivery = one.delivery
        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.at))
        kinds = Counter(str(event.get("name")) for event in delivery.events)
        events = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        row = (clock, delivery.endpoint, events, str(one.tries), one.reason)
        table.add_row(*(Text(_printable(cell)) for cell in row))
    return table
