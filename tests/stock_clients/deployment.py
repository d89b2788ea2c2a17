"""Gateways as a user would start them, load balancers in front of them, and one Redis."""

from __future__ import annotations

import os
import signal
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobpush.config import Config
from jobpush.processes.child import ChildProcess
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.processes.ports import free_port
from tests.waiting import PATIENCE

from .balancer import LoadBalancer

KEY = "stock-key"
SECRET = "stock-secret"
APP_ID = "1"


class Server:
    """A gunicorn server; a test may kill it and start it again on the same port."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        """
        Start the server.

        Args:
            command: Command without ``--bind``, which is added.
            log: File for its output.
            environment: The complete environment.
        """
        self.port = free_port()
        self._command = [*command, "--bind", f"127.0.0.1:{self.port}"]
        self._log = log
        self._environment = environment
        self.start()

    @property
    def is_running(self) -> bool:
        """Whether the process is running."""
        return self._process.is_running

    def start(self) -> None:
        """Start the server, and wait until it is ready."""
        self._process = ChildProcess(self._command, log=self._log, environment=self._environment)
        wait_until(lambda: is_ready(self.port), self._process, self._log)

    def stop(self) -> None:
        """Stop the server as an init system does."""
        self._process.stop(signal.SIGTERM, grace=PATIENCE)

    def kill(self) -> None:
        """Kill the server with all its processes."""
        self._process.kill()

    def kill_workers(self) -> None:
        """Kill the worker processes, which gunicorn replaces."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        for pid in children.read_text().split():
            os.kill(int(pid), signal.SIGKILL)


def gateway(folder: Path, config: Config, *, workers: int) -> Server:
    """Start ``jobpush gateway`` as a user would."""
    command = [str(Path(sys.executable).with_name("jobpush")), "gateway", "--workers", str(workers)]
    environment = {
        **environment_of(config),
        "JOBPUSH_ALLOWED_ORIGINS": "*",  # as with Pusher: there are no sessions that other origins could abuse
        "JOBPUSH_GRACE": "1",  # keeps the tests of departures short
        "JOBPUSH_SUBSCRIPTION_COUNT": "true",  # disabled by default, as with Pusher
    }
    return Server(command, folder / "gateway.log", environment)


@dataclass(frozen=True)
class Deployment:
    """
    A deployment with two entrances; an event that is published at one is delivered at both.

    Attributes:
        gateways: One gateway with two workers, or two with one worker each.
        entrances: Load balancers. With two gateways, each prefers a different one.
        config: The gateways' settings, for publishers with the same Redis.
    """

    gateways: list[Server]
    entrances: list[LoadBalancer]
    config: Config

    @property
    def ports(self) -> list[int]:
        """The ports of the entrances."""
        return [entrance.port for entrance in self.entrances]

    def cut(self) -> None:
        """Drop the connections of the first entrance."""
        self.entrances[0].cut()

    def lose_gateway(self) -> None:
        """Kill the processes that hold the connections of the first entrance."""
        if len(self.gateways) == 1:
            self.gateways[0].kill_workers()
        else:
            self.gateways[0].kill()

    def repair(self) -> None:
        """Restart killed gateways."""
        for gateway in self.gateways:
            if not gateway.is_running:
                gateway.start()


@contextmanager
def deploy(folder: Path, *, gateways: int, workers: int) -> Iterator[Deployment]:
    """Run a deployment until the end of the block; write its logs to ``folder``."""
    with EmbeddedRedis() as redis, ExitStack() as stack:
        config = Config(redis_url=redis.url, key=KEY, secret=SECRET, app_id=APP_ID, publish_timeout=PATIENCE)
        servers = []
        for _ in range(gateways):
            servers.append(gateway(folder, config, workers=workers))
            stack.callback(servers[-1].stop)
        ports = [server.port for server in servers]
        entrances = [LoadBalancer(ports), LoadBalancer(ports[::-1])]
        for entrance in entrances:
            stack.callback(entrance.close)
        yield Deployment(servers, entrances, config)


def environment_of(config: Config) -> dict[str, str]:
    """Return the environment of a process with these settings, without the ``JOBPUSH_*`` variables of the test run."""
    settings = {
        "JOBPUSH_REDIS_URL": config.redis_url,
        "JOBPUSH_APP_ID": config.app_id,
        "JOBPUSH_KEY": config.key,
        "JOBPUSH_SECRET": config.secret,
        "JOBPUSH_PUBLISH_TIMEOUT": str(config.publish_timeout),
    }
    return {**{name: value for name, value in os.environ.items() if not name.startswith("JOBPUSH_")}, **settings}


def wait_until(condition: Callable[[], bool], process: ChildProcess, log: Path) -> None:
    """Wait until a server that was just started fulfils a condition."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if not process.is_running or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"a server did not start:\n{log.read_text()}")
        time.sleep(0.02)


def is_ready(port: int) -> bool:
    """Return whether the gateway on this port reports that it is ready."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/jobpush/health/ready", timeout=PATIENCE):
            return True
    except OSError:  # includes responses other than 200
        return False
