"""Taking a port, for the commands that serve."""

from __future__ import annotations

import errno
import socket

from ..errors import ConfigurationError


def listen(host: str, port: int) -> socket.socket:
    """
    Take a port, so that one in use is found out before anything is started.

    Args:
        host: Name or address of one of our interfaces.
        port: 0 is any free one.

    Raises:
        ConfigurationError: If the port can't be had.
    """
    if not 0 <= port <= 65535:
        raise ConfigurationError(f"there is no port {port}; choose one up to 65535")
    try:
        return socket.create_server((host, port), family=_family_of(host))
    except OSError as exc:
        reason = "is in use" if exc.errno == errno.EADDRINUSE else f"can't be used: {exc.strerror}"
        raise ConfigurationError(f"port {port} {reason}; choose another") from exc


def _family_of(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
