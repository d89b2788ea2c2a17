"""``jobpush gateway``: the stand-alone gateway."""

from __future__ import annotations

import os
import sys

import click

from .support.options import load_config, redis_option

_LOG_FORMATS = click.Choice(["text", "json"])


@click.command()
@click.option("--bind", default="127.0.0.1:8001", show_default=True, metavar="HOST:PORT", help="Address to listen on.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(min=1), help="Processes; one per core.")
@click.option("--log", "log_format", default="text", show_default=True, type=_LOG_FORMATS, help="Format of the log.")
@click.option(
    "--user-loader",
    metavar="MODULE:FUNCTION",
    help="Function that gets a werkzeug Request and returns the user's id, a pair of id and user_info, or None."
    "  [default: $JOBPUSH_USER_LOADER]",
)
@redis_option
def gateway(bind: str, workers: int, log_format: str, user_loader: str | None) -> None:
    """
    Run a stand-alone gateway, without an application around it.

    The gateway identifies users by connection tokens, by Pusher sign-in, or with --user-loader. It needs JOBPUSH_KEY,
    JOBPUSH_SECRET and JOBPUSH_REDIS_URL. It runs on gunicorn; GUNICORN_CMD_ARGS takes further gunicorn options.

    \b
    One process on the loopback interface:
      jobpush gateway
    Behind a load balancer, one process per core:
      jobpush gateway --bind 0.0.0.0:8001 --workers 4 --log json
    With the users of your own sessions:
      jobpush gateway --user-loader shop.sessions:load_user
    """
    import flask_sock  # noqa: F401 - a missing extra fails here, with its name
    import gunicorn  # noqa: F401

    from ..errors import ConfigurationError
    from ..processes.ports import listen
    from ..web.flask.auth.user_loader import import_user_loader

    load_config().require_credentials()
    host, _, port = bind.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigurationError(f"--bind must be HOST:PORT, not {bind!r}")
    listen(host.strip("[]"), int(port)).close()  # gunicorn would retry five times and log each failure
    os.environ["JOBPUSH_LOG_FORMAT"] = log_format
    if user_loader:
        os.environ["JOBPUSH_USER_LOADER"] = user_loader
    if name := os.environ.get("JOBPUSH_USER_LOADER"):
        import_user_loader(name)
    command = [sys.executable, "-m", "gunicorn", "--config", "python:jobpush.gunicorn_conf"]
    command += ["--bind", bind, "--workers", str(workers), "jobpush.gateway:create_app()"]
    os.execv(sys.executable, command)  # noqa: S606 - gunicorn replaces this process, so that it gets the signals
