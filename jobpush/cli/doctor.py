"""``jobpush doctor``: find out why something does not work."""

from __future__ import annotations

from dataclasses import asdict

import click

from .support.options import json_option, redis_option
from .support.terminal import json_line, printable

_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failed": ("✗", "red"), "skipped": ("-", "bright_black")}


@click.command()
@click.option(
    "--app",
    "names",
    multiple=True,
    metavar="MODULE:APP",
    help="Flask, Django, FastAPI, Starlette or Celery application; may be given twice.",
)
@click.option("--url", metavar="URL", help="Address of the gateway as browsers see it.")
@click.option("--origin", metavar="URL", help="Address of the pages, if it is another one.")
@click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Header of a request of a user.")
@click.option("--idle", default=0.0, metavar="SECONDS", help="Keep a connection open that long, to find idle limits.")
@json_option
@redis_option
def doctor(
    names: tuple[str, ...], url: str | None, origin: str | None, headers: tuple[str, ...], idle: float, is_json: bool
) -> None:
    """
    Check Redis, broker, worker, credentials, origins, proxy, CSRF and user loader.

    Each line is a finding, with what to do about it. The exit status is 1 if a check failed.

    \b
    Check the settings of the environment:
      jobpush doctor
    Check an application, with its worker:
      jobpush doctor --app shop.web:app --app shop.tasks:celery_app
      jobpush doctor --app shop.wsgi:application --app shop.celery:app
    Check the way through the proxy, its idle limit included:
      jobpush doctor --url https://shop.example --idle 70
    Check which user a session belongs to:
      jobpush doctor --app shop.web:app --header 'Cookie: session=…'
    """
    from ..config import Config
    from .diagnosis import Applications, Status, diagnose

    findings = diagnose(
        Config.load({}, {}),
        Applications.load(names),
        url=url,
        origin=origin,
        headers=dict(_parse_header(header) for header in headers),
        idle=idle,
    )
    has_failed = False
    for finding in findings:
        has_failed = has_failed or finding.status is Status.FAILED
        if is_json:
            click.echo(json_line({**asdict(finding), "status": finding.status.value}))
            continue
        mark, colour = _MARKS[finding.status.value]
        click.echo(f"{click.style(mark, fg=colour)} {finding.check:<18} {printable(finding.message)}")
        if finding.cure:
            click.echo(f"{'':<21}→ {printable(finding.cure)}")
    if has_failed:
        raise click.exceptions.Exit(1)


def _parse_header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise click.BadParameter(f"{text!r} has no colon; write 'Cookie: session=…'", param_hint="--header")
    return name.strip(), value.strip()
