"""Reserve a port."""

from __future__ import annotations

import errno
import random
import socket
from contextlib import suppress

from ..errors import ConfigurationError

#: The first and the last port to choose from.
_PORTS = (15_000, 32_000)


def listen(host: str, port: int) -> socket.socket:
    """
    Listen on a port, so that one in use is noticed before anything starts.

    Args:
        host: Name or address of a local interface.
        port: 0 takes any free port.

    Raises:
        ConfigurationError: If the port is not available.
    """
    if not 0 <= port <= 65535:
        raise ConfigurationError(f"there is no port {port}; choose one up to 65535")
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as exc:
        reason = "is in use" if exc.errno == errno.EADDRINUSE else f"is not available: {exc.strerror}"
        raise ConfigurationError(f"port {port} {reason}; choose another") from exc


def free_port() -> int:
    """
    Return a port of the loopback interface that is free now.

    It is below the ports that Linux and macOS give to outgoing connections, so that no connection takes it before a
    program listens there.
    """
    while True:
        with suppress(ConfigurationError), listen("127.0.0.1", random.randint(*_PORTS)) as probe:  # noqa: S311 - no secret
            return int(probe.getsockname()[1])
