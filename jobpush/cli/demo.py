"""``jobpush demo``: the video uploader with everything it needs."""

from __future__ import annotations

import os
import sys
import webbrowser

import click

from .support.options import redis_option


@click.command()
@click.option("--port", default=8000, show_default=True, help="Port on the loopback interface; 0 takes any free one.")
@click.option("--open/--no-open", "is_open", default=None, help="Open a browser.  [default: if there is a display]")
@click.option("--verbose", "is_verbose", is_flag=True, help="Show the logs of Redis, worker and site.")
@redis_option
def demo(port: int, is_open: bool | None, is_verbose: bool) -> None:
    """
    Run the demo, a video uploader, with everything it needs.

    Starts a private Redis (or uses JOBPUSH_REDIS_URL), a Celery worker and the site. Ctrl-C stops all of it. Nothing
    is left behind, except data below a JOBPUSH_PREFIX that you set.

    The demo is part of the source repository; it runs from a checkout.

    \b
    On another port than 8000:
      jobpush demo --port 8080
    """
    from rich.console import Console

    from .support.demo_runner import run

    with Console(stderr=True).status("checking the requirements") as status:

        def announce(url: str) -> None:
            status.stop()
            click.echo(f"The jobpush demo runs at {url} (press Ctrl-C to stop)")
            if is_open if is_open is not None else _has_display():
                webbrowser.open(url)

        run(
            port=port,
            redis_url=os.environ.get("JOBPUSH_REDIS_URL"),
            is_verbose=is_verbose,
            on_step=status.update,
            on_ready=announce,
        )


def _has_display() -> bool:
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
