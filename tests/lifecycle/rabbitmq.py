"""A private instance of Debian's RabbitMQ, with its own names and ports, and all files in one folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import amqp

from jobpush.processes.child import ChildProcess

#: Debian's start script; the one on the PATH switches to the user and folders of the system's server.
_SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"
#: Timeout for the first connection in seconds; a start takes about 6.
_START_TIMEOUT = 120.0


class PortTakenError(AssertionError):
    """Another program has taken a port that was free before."""


@contextlib.contextmanager
def rabbitmq() -> Iterator[str]:
    """Run a RabbitMQ on the loopback; yield its URL for Celery."""
    with contextlib.ExitStack() as stack:
        yield _started(stack)


def _started(stack: contextlib.ExitStack, attempts: int = 5) -> str:
    for _ in range(attempts - 1):
        with contextlib.suppress(PortTakenError):
            return stack.enter_context(_server())
    return stack.enter_context(_server())


@contextlib.contextmanager
def _server() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="jobpush-rabbitmq-"))
    epmd_port, port, distribution_port = _free_ports(3)
    environment = {
        **os.environ,
        "HOME": str(folder),  # for Erlang's cookie
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": "jobpush@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(distribution_port),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 -kernel inet_dist_use_interface {127,0,0,1}",
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOGS": "-",
        # Ignore the configuration of the system's server.
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
    }
    log = folder / "server.log"
    # The registry of Erlang's nodes; the server would start one that keeps running.
    epmd = ChildProcess(["epmd"], log=log, environment=environment, leftovers=[folder])
    server = ChildProcess([_SERVER], log=log, environment=environment, leftovers=[folder])
    try:
        _wait_until_ready(server, port, log)
        yield f"amqp://guest:guest@127.0.0.1:{port}//"
    finally:
        server.stop(signal.SIGTERM, grace=5)
        epmd.kill()
        shutil.rmtree(folder)


def _wait_until_ready(server: ChildProcess, port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while True:
        try:
            with amqp.Connection(f"127.0.0.1:{port}", connect_timeout=1):
                return
        except (OSError, amqp.AMQPError) as exc:
            if not server.is_running or time.monotonic() > deadline:
                text = log.read_text()
                is_port_taken = "already_used" in text or "eaddrinuse" in text
                error = PortTakenError if is_port_taken else AssertionError
                raise error(f"RabbitMQ did not start: {text[-2000:]}") from exc
            time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [int(free.getsockname()[1]) for free in sockets]
