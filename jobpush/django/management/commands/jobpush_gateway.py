"""``manage.py jobpush_gateway``: the gateway with the settings of the ``JOBPUSH`` dictionary, for development."""

from __future__ import annotations

import os
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from ...settings import DEVELOPMENT_BIND, DEVELOPMENT_ORIGINS, options


class Command(BaseCommand):
    """Replaces this process by ``jobpush gateway``."""

    help = "Run the gateway, with the settings of the JOBPUSH dictionary. Users sign in with connection tokens."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument(
            "--bind", default=DEVELOPMENT_BIND, metavar="HOST:PORT", help=f"default: {DEVELOPMENT_BIND}"
        )

    def handle(self, *args: Any, **arguments: Any) -> None:
        """Run it; the environment has the settings."""
        for name, value in options().items():
            text = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
            os.environ[f"JOBPUSH_{name.upper()}"] = text
        if settings.DEBUG:
            os.environ.setdefault("JOBPUSH_ALLOWED_ORIGINS", DEVELOPMENT_ORIGINS)
        command = [sys.executable, "-m", "jobpush", "gateway", "--bind", arguments["bind"]]
        os.execv(sys.executable, command)  # noqa: S606 - the gateway replaces this process, so that it gets the signals
