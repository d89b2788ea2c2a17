"""Gateways as a user would start them, load balancers in front of them, and one Redis below."""

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
    """A gunicorn, by whatever command; a test may kill it and start it again on the same port."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        """
        Start it.

        Args:
            command: Without ``--bind``, which is added.
            log: File for its output.
            environment: Its whole environment.
        """
        self.port = free_port()
        self._command = [*command, "--bind", f"127.0.0.1:{self.port}"]
        self._log = log
        self._environment = environment
        self.start()

    @property
    def is_running(self) -> bool:
        """Whether nobody has ended it."""
        return self._process.is_running

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        self._process = ChildProcess(self._command, log=self._log, environment=self._environment)
        wait_until(lambda: is_ready(self.port), self._process, self._log)

    def stop(self) -> None:
        """End it as an init system would."""
        self._process.stop(signal.SIGTERM, grace=PATIENCE)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()

    def kill_workers(self) -> None:
        """Kill its worker processes; it replaces them by itself."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        for pid in children.read_text().split():
            os.kill(int(pid), signal.SIGKILL)


def gateway(folder: Path, config: Config, *, workers: int) -> Server:
    """``jobpush gateway``, as a user would start it."""
    command = [str(Path(sys.executable).with_name("jobpush")), "gateway", "--workers", str(workers)]
    environment = {
        **environment_of(config),
        "JOBPUSH_ALLOWED_ORIGINS": "*",  # as with Pusher: it knows no sessions that a page could ride
        "JOBPUSH_GRACE": "1",  # what waits for it need not wait longer
        "JOBPUSH_SUBSCRIPTION_COUNT": "true",  # with Pusher too it is to be switched on
    }
    return Server(command, folder / "gateway.log", environment)


@dataclass(frozen=True)
class Deployment:
    """
    What clients see of it is two entrances, each a load balancer; an event from one is delivered at both.

    Attributes:
        gateways: One with two workers, or two with one each.
        entrances: Load balancers. Where there are two gateways, each prefers another.
        config: The gateways' settings, for whoever publishes to the same Redis.
    """

    gateways: list[Server]
    entrances: list[LoadBalancer]
    config: Config

    @property
    def ports(self) -> list[int]:
        """Where the entrances listen."""
        return [entrance.port for entrance in self.entrances]

    def cut(self) -> None:
        """Drop the connections that came in at the first entrance."""
        self.entrances[0].cut()

    def lose_gateway(self) -> None:
        """Kill the processes that hold the connections of the first entrance."""
        if len(self.gateways) == 1:
            self.gateways[0].kill_workers()
        else:
            self.gateways[0].kill()

    def repair(self) -> None:
        """Start again what was lost."""
        for gateway in self.gateways:
            if not gateway.is_running:
                gateway.start()


@contextmanager
def deploy(folder: Path, *, gateways: int, workers: int) -> Iterator[Deployment]:
    """A deployment until the end of the block; its logs are written to ``folder``."""
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
    """The environment of a process with these settings, and none of whoever runs the tests."""
    ours = {
        "JOBPUSH_REDIS_URL": config.redis_url,
        "JOBPUSH_APP_ID": config.app_id,
        "JOBPUSH_KEY": config.key,
        "JOBPUSH_SECRET": config.secret,
        "JOBPUSH_PUBLISH_TIMEOUT": str(config.publish_timeout),
    }
    return {**{name: value for name, value in os.environ.items() if not name.startswith("JOBPUSH_")}, **ours}


def wait_until(condition: Callable[[], bool], process: ChildProcess, log: Path) -> None:
    """Wait until a server that was just started does what it is there for."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if not process.is_running or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"a server did not start:\n{log.read_text()}")
        time.sleep(0.02)


def is_ready(port: int) -> bool:
    """Whether a gateway on this port reports that it is ready."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/jobpush/health/ready", timeout=PATIENCE):
            return True
    except OSError:  # an answer other than 200 is one too
        return False
