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

from flask import current_app

from ...channels import escape_user_id
from ...config import Config
from ...errors import ConfigurationError, InvalidUserId
from ...gateway.hub import Hub
from ...gateway.metrics import Refusals
from ...protocol.actions import UserData
from ...protocol.codes import OverCapacity
from ...store import Store
from ..gunicorn.handover import ensure_real_threads
from .limits import Flooded, Limits, Place, TrustedProxies
from .metrics import Metrics

logger = logging.getLogger("jobpush.gateway")

#: Returns the id of the request's user, or ``None``.
UserLoader: TypeAlias = Callable[[], str | int | None]
#: Decides whether a user (``None``: not signed in) may join a channel; a dict is the ``user_info`` for presence.
ChannelAuthorizer: TypeAlias = Callable[[str | None, str], "bool | Mapping[str, Any]"]

#: Seconds that a hub may take to connect to Redis before it counts as not ready.
_SETTLING = 1.0


@dataclass(slots=True)
class Callbacks:
    """Functions of the application. They can be set after the routes are registered."""

    user_loader: UserLoader | None = None
    channel_authorizer: ChannelAuthorizer | None = None


class GatewayState:
    """The gateway of one application: ``app.extensions["jobpush"]``."""

    def __init__(self, config: Config, callbacks: Callbacks) -> None:
        self.config = config
        self.callbacks = callbacks
        self.refusals = Refusals()
        self.limits = Limits(config)
        self.proxies = TrustedProxies(config.trusted_proxies)
        self.store = Store(config)
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

    def settled_hub(self) -> Hub:
        """Return the hub; if it has only just started, wait until it is ready, for a second at most."""
        hub = self.hub
        while not hub.is_ready and time.monotonic() < self._hub_started_at + _SETTLING:
            time.sleep(0.01)
        return hub

    @property
    def metrics(self) -> Metrics:
        """The metrics of this process's hub and of its sibling processes."""
        self.hub  # noqa: B018 - starts both
        assert self._metrics is not None  # noqa: S101 - for the type checker
        return self._metrics

    def user(self) -> UserData | None:
        """Return the user that ``user_loader`` finds in the current request."""
        loader = self.callbacks.user_loader
        if loader is None:
            return None
        try:
            user_id = loader()
            return None if user_id is None else UserData(escape_user_id(user_id))
        except InvalidUserId as exc:
            logger.warning("user_loader returned an invalid id; the request has no user: %s", exc)
        except Exception:
            logger.exception("user_loader failed; the request has no user")
        return None

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
