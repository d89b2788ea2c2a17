"""A gateway in processes of its own, as it is served in production."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from jobpush.config import Config
from jobpush.processes.child import ChildProcess
from jobpush.store import Store
from tests.preloaded import PreloadedProcess

from .client import TIMEOUT, Client

_ROOT = Path(__file__).parents[2]


@dataclass
class Site:
    """A web server that serves :mod:`tests.gateway.site`."""

    port: int
    process: ChildProcess
    clients: list[Client] = field(default_factory=list)

    def connect(self, user: str | None = None, **options: Any) -> Client:
        """A connection that has not read anything yet."""
        self.clients.append(Client(self.port, user=user, **options))
        return self.clients[-1]

    def sign_in(self, user: str, **options: Any) -> Client:
        """Our own client's connection of a signed-in page, which has read up to the join of the user's channel."""
        client = self.connect(user, client="jobpush", **options)
        client.receive_until(lambda message: message["event"] == "pusher_internal:subscription_succeeded")
        return client

    def stop(self) -> int:
        """End it as a process manager does."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(TIMEOUT)

    def kill(self) -> None:
        """End it and its workers at once."""
        for client in self.clients:
            client.hang_up()
        self.process.kill()


Serve = Callable[..., Site]


@contextmanager
def serving(redis_url: str) -> Iterator[Serve]:
    """Gives what starts web servers; they end behind it."""
    sites: list[Site] = []

    def start(
        *arguments: str,
        server: str = "gunicorn",
        application: str = "tests.gateway.site:create_app()",
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
        **settings: object,
    ) -> Site:
        variables = {f"JOBPUSH_{name.upper()}": str(value) for name, value in settings.items()}
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(512)  # the kernel accepts connections before the server is ready
            commands = {
                "gunicorn": [
                    "gunicorn",
                    "--config",
                    "python:jobpush.gunicorn_conf",
                    "--bind",
                    f"fd://{listener.fileno()}",
                ],
                "werkzeug": ["tests.gateway.site"],
            }
            command = [sys.executable, "-m", *commands[server], *arguments]
            if server == "gunicorn":
                command.append(application)
            process = PreloadedProcess(
                command,
                environment={
                    **os.environ,
                    "PYTHONPATH": str(_ROOT),
                    "JOBPUSH_REDIS_URL": redis_url,
                    "LISTEN_FD": str(listener.fileno()),
                    **variables,
                    **(environment or {}),
                },
                descriptors=[listener.fileno()],
                log=log,
            )
            sites.append(Site(listener.getsockname()[1], process))
            return sites[-1]

    try:
        yield start
    finally:
        for site in sites:
            site.kill()


@pytest.fixture
def serve(redis_url: str) -> Iterator[Serve]:
    """Starts web servers; gives each setting as ``JOBPUSH_…``."""
    with serving(redis_url) as start:
        yield start


@pytest.fixture
def site(serve: Serve) -> Site:
    """One gunicorn process with four threads."""
    return serve()


@pytest.fixture
def store(redis_url: str) -> Iterator[Store]:
    """The publishers' side."""
    store = Store(Config(redis_url=redis_url, publish_timeout=TIMEOUT))
    yield store
    store.close()
