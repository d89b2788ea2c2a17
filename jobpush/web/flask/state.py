"""The state of a gateway in one Flask application, and the functions that the application gives it."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias
from weakref import WeakSet

from flask import current_app, request

from ...config import Config
from ...errors import ConfigurationError, JobPushError
from ...gateway.counters import Refusals
from ...gateway.hub import Hub
from ...protocol.codes import OverCapacity
from ...rare_log import RareLog
from ...store import Store
from ...store.directory import RedisDirectory
from ..gunicorn.handover import ensure_real_threads, ensure_socket
from .limits import Flooded, Limits, Place, TrustedProxies
from .origins import ForbiddenOrigin, Origins
from .prometheus import Metrics
from .refusals import NoSockets

logger = logging.getLogger("jobpush.gateway")

#: Returns the id of the request's user, the id and its ``user_info``, or ``None``.
UserLoader: TypeAlias = Callable[[], Any]
#: Decides whether a user (``None``: not signed in) may join a channel; a dict is the ``user_info`` for presence.
ChannelAuthorizer: TypeAlias = Callable[[str | None, str], "bool | Mapping[str, Any]"]
#: Runs an ended task again, by its id, its name and its user; ``False``: it refuses.
Rerun: TypeAlias = Callable[[str, str, str], "bool | None"]

#: Remedies by the reason of a refusal.
_REMEDIES = {
    "forbidden_origin": "Add the origin to JOBPUSH_ALLOWED_ORIGINS; if it is your own site, let the proxy pass Host "
    "on, or name the proxy in JOBPUSH_TRUSTED_PROXIES and let it send X-Forwarded-Host.",
    "unknown_app": "Compare the key in the page with JOBPUSH_KEY.",
    "tls_required": "Connect with wss, or let the proxy send X-Forwarded-Proto: https.",
}
#: Seconds that a hub may take to connect to Redis before it counts as not ready.
_SETTLING = 1.0


@dataclass(slots=True)
class Callbacks:
    """Functions of the application. They can be set after the routes are registered."""

    user_loader: UserLoader | None = None
    channel_authorizer: ChannelAuthorizer | None = None
    on_rerun: Rerun | None = None


class GatewayState:
    """The gateway of one application: ``app.extensions["jobpush"]``."""

    def __init__(self, config: Config, callbacks: Callbacks) -> None:
        self.config = config
        self.callbacks = callbacks
        self.refusals = Refusals()
        self.limits = Limits(config)
        self.proxies = TrustedProxies(config.trusted_proxies)
        self.origins = Origins(config.allowed_origins, self.proxies)
        self.log = RareLog(logger)
        self.store = Store(config)
        self.directory = RedisDirectory(self.store)
        self._hub: Hub | None = None
        self._metrics: Metrics | None = None
        self._hub_pid = 0
        self._hub_started_at = 0.0
        self._lock = threading.Lock()
        all_states.add(self)

    @property
    def hub(self) -> Hub:
        """
        The hub of this process. It starts on first use, so a server may load the application before it forks.

        Raises:
            ConfigurationError: If gevent or eventlet has patched the process.
        """
        if self._hub_pid != os.getpid():
            with self._lock:
                if self._hub_pid != os.getpid():
                    self._hub = self._start_hub()
                    self._hub_pid = os.getpid()
        assert self._hub is not None  # noqa: S101 - for the type checker
        return self._hub

    def start_with_server(self, environ: Mapping[str, Any]) -> None:
        """
        Start the hub with the first request of a server without a hook for its worker processes, whatever it asks for.

        Test clients start none, nor do processes that serve one request: of CGI, or of werkzeug's forking server.
        Source: RFC 3875, 4.1.17: servers give their name.
        """
        if self._hub_pid == os.getpid():
            return
        serves_once = environ["wsgi.run_once"] or (environ["wsgi.multiprocess"] and "werkzeug.socket" in environ)
        if "SERVER_SOFTWARE" in environ and not serves_once and self.has_real_threads:
            self.hub  # noqa: B018 - starts it

    @property
    def has_real_threads(self) -> bool:
        """Whether a hub can run here: not under gevent or eventlet."""
        try:
            ensure_real_threads()
        except ConfigurationError:
            return False
        return True

    def settled_hub(self) -> Hub:
        """Return the hub; if it has only just started, wait until it is ready, for a second at most."""
        hub = self.hub
        while not hub.is_ready and time.monotonic() < self._hub_started_at + _SETTLING:
            time.sleep(0.01)
        return hub

    @property
    def metrics(self) -> Metrics:
        """
        The metrics of this process's hub and of its sibling processes.

        Raises:
            NoSockets: If no hub can run here.
        """
        try:
            self.hub  # noqa: B018 - starts both
        except ConfigurationError as exc:
            raise NoSockets(str(exc)) from None
        assert self._metrics is not None  # noqa: S101 - for the type checker
        return self._metrics

    def ensure_sockets(self, environ: dict[str, Any]) -> None:
        """
        Check that the web server lets the hub serve the connection of a request.

        Raises:
            NoSockets: If it does not; clients then poll.
        """
        try:
            ensure_real_threads()
            ensure_socket(environ)
        except ConfigurationError as exc:
            raise NoSockets(str(exc)) from None

    def log_refusal(self, error: JobPushError) -> None:
        """Log why the current request is refused, with a remedy, once a minute for each reason."""
        reason = error.code if isinstance(error, ForbiddenOrigin) else getattr(error, "refusal", error.code)
        message, remedy = getattr(error, "message", str(error)), getattr(error, "remedy", "")
        origin, place = request.headers.get("Origin", "none")[:100], f"path {request.path[:100]!r}"
        place += f", origin {origin!r}, host {request.host[:100]!r}"
        self.log.warn(reason, f"A request is refused: {message}; {place}. {remedy or _REMEDIES.get(reason, '')}")

    def enter(self, environ: Mapping[str, Any]) -> Place:
        """
        Reserve a place for the connection of a request; see :meth:`Limits.enter`.

        Raises:
            Flooded: If too many connections are being refused already. Counted as a refusal.
        """
        forwarded_for = environ.get("HTTP_X_FORWARDED_FOR", "")
        try:
            return self.limits.enter(self.proxies.client_of(environ.get("REMOTE_ADDR", ""), forwarded_for))
        except Flooded:
            self.refusals.count(OverCapacity.refusal)
            raise

    def _start_hub(self) -> Hub:
        ensure_real_threads()
        hub = Hub(self.config, self.refusals)
        self._metrics = Metrics(hub)
        hub.start()
        self._hub_started_at = time.monotonic()
        loader, origins = self.callbacks.user_loader, ", ".join(self.config.allowed_origins)
        logger.info(
            "The gateway uses Redis %s, prefix %s; user loader: %s; allowed origins: %s",
            hub.server,
            self.config.prefix,
            getattr(loader, "__qualname__", loader) or "none, users need tokens",
            origins or "the host's own",
        )
        atexit.register(hub.stop)  # gunicorn's workers exit normally on SIGTERM and SIGINT
        return hub


#: The gateways of this process, for a server that starts their hubs when it boots a worker.
all_states: WeakSet[GatewayState] = WeakSet()


def start_hubs() -> None:
    """Start the hub of each gateway of this process: it reaps dead workers and gateways before any browser connects."""
    for state in list(all_states):
        try:
            state.hub  # noqa: B018 - starts it
        except ConfigurationError as exc:
            logger.error("The gateway serves no WebSockets and no event streams: %s", exc)


def current_gateway() -> GatewayState:
    """Return the gateway of the application that serves the current request."""
    state: GatewayState = current_app.extensions["jobpush"]
    return state
