"""The Flask extension: what an application adds to itself to get a gateway."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from flask import Flask, current_app, request
from markupsafe import Markup, escape

from ...channels import escape_user_id
from ...config import Config
from ...errors import InvalidUserId
from ...gateway.hub import Hub
from ...gateway.metrics import Refusals
from ...protocol.actions import UserData
from ...protocol.codes import OverCapacity
from ...protocol.settings import ProtocolSettings
from ...store import Store
from ...tokens import ensure_token_settings
from ..gunicorn.handover import ensure_real_threads
from .assets import script_name
from .limits import Flooded, Limits, Place, TrustedProxies
from .metrics import Metrics

logger = logging.getLogger("jobpush.gateway")

#: Gives the id of the user of the request, or ``None``.
UserLoader: TypeAlias = Callable[[], str | int | None]
#: Says whether a user (``None``: nobody is signed in) may join a channel; a dict is the ``user_info`` for presence.
ChannelAuthorizer: TypeAlias = Callable[[str | None, str], "bool | Mapping[str, Any]"]


class GatewayState:
    """What one application has of one gateway: ``app.extensions["jobpush"]``."""

    def __init__(self, config: Config, gateway: Gateway) -> None:
        self.config = config
        self.gateway = gateway
        self.settings = ProtocolSettings.from_config(config)
        self.refusals = Refusals()
        self.limits = Limits(config)
        self._proxies = TrustedProxies(config.trusted_proxies)
        self.store = Store(config)
        self._hub: Hub | None = None
        self._metrics: Metrics | None = None
        self._hub_pid = 0
        self._lock = threading.Lock()

    @property
    def hub(self) -> Hub:
        """
        The hub of this process, started at its first use: after the fork, whatever was loaded before it.

        Raises:
            ConfigurationError: If gevent or eventlet have patched the process.
        """
        if self._hub_pid != os.getpid():
            with self._lock:
                if self._hub_pid != os.getpid():
                    self._hub = self._started_hub()
                    self._hub_pid = os.getpid()
        assert self._hub is not None  # noqa: S101 - for the type checker
        return self._hub

    @property
    def metrics(self) -> Metrics:
        """What the hub of this process, and those of its siblings, have counted."""
        self.hub  # noqa: B018 - it is made with it
        assert self._metrics is not None  # noqa: S101 - for the type checker
        return self._metrics

    def user(self) -> UserData | None:
        """The user whom the session of the present request names."""
        loader = self.gateway.user_loader
        if loader is None:
            return None
        try:
            user_id = loader()
            return None if user_id is None else UserData(escape_user_id(user_id))
        except InvalidUserId as exc:
            logger.warning("user_loader gave an id that can't be used: %s", exc)
        except Exception:
            logger.exception("user_loader failed; the request counts as nobody's")
        return None

    def enter(self, environ: Mapping[str, Any]) -> Place:
        """
        Give the connection of a request a place, or say why not; see :meth:`Limits.enter`.

        Args:
            environ: Of the request.

        Raises:
            Flooded: If there are too many even to be told why; counted.
        """
        forwarded_for = environ.get("HTTP_X_FORWARDED_FOR", "")
        try:
            return self.limits.enter(self._proxies.client_of(environ.get("REMOTE_ADDR", ""), forwarded_for))
        except Flooded:
            self.refusals.count(OverCapacity.refusal)
            raise

    def _started_hub(self) -> Hub:
        ensure_real_threads()
        hub = Hub(self.config, self.refusals)
        self._metrics = Metrics(hub)
        hub.start()
        atexit.register(hub.stop)  # gunicorn's workers end by it, on SIGTERM and SIGINT alike
        return hub


class Gateway:
    """
    A gateway inside a Flask application.

    Example::

        app = Flask(__name__)
        app.secret_key = "..."
        app.config.update(JOBPUSH_KEY="...", JOBPUSH_SECRET="...", JOBPUSH_REDIS_URL="redis://localhost")
        gateway = Gateway(app, user_loader=lambda: session.get("user_id"))

        @gateway.authorize_channel
        def may_join(user_id, channel):
            return channel.startswith("private-team-") and user_id in team(channel)

    Args:
        app: The application; or none, and :meth:`init_app` later.
        user_loader: Called in the request context of each handshake; gives the user's id or ``None``.
        settings: Settings by their names in :class:`jobpush.config.Config`; they win over ``app.config``.
    """

    def __init__(self, app: Flask | None = None, *, user_loader: UserLoader | None = None, **settings: Any) -> None:
        self.user_loader = user_loader
        self.channel_authorizer: ChannelAuthorizer | None = None
        self._settings = settings
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """
        Add the routes to an application: ``/app/<key>`` for WebSockets, ``/apps/<app_id>/…`` for servers,
        ``/jobpush/…`` for all else.

        Keys of ``app.config``, with their defaults in :class:`jobpush.config.Config`: ``JOBPUSH_REDIS_URL``,
        ``JOBPUSH_PREFIX``, ``JOBPUSH_APP_ID``, ``JOBPUSH_KEY``, ``JOBPUSH_SECRET``, ``JOBPUSH_PREVIOUS_SECRET``,
        ``JOBPUSH_ALLOWED_ORIGINS``, ``JOBPUSH_TRUSTED_PROXIES``, ``JOBPUSH_METRICS_TOKEN``,
        ``JOBPUSH_MAX_CONNECTIONS``, ``JOBPUSH_MAX_CONNECTIONS_PER_USER``, ``JOBPUSH_MAX_CONNECTIONS_PER_ADDRESS``,
        ``JOBPUSH_HANDSHAKE_RATE``, ``JOBPUSH_MESSAGE_RATE``,
        ``JOBPUSH_ACTIVITY_TIMEOUT``, ``JOBPUSH_PONG_TIMEOUT``, ``JOBPUSH_IDLE_TIMEOUT``, ``JOBPUSH_TLS_ONLY``,
        ``JOBPUSH_SIGNIN_TIMEOUT``,
        ``JOBPUSH_MAX_MEMBERS``, ``JOBPUSH_MESSAGE_TIMEOUT``, ``JOBPUSH_REQUEST_TIMEOUT``,
        ``JOBPUSH_MAX_CHANNELS``, ``JOBPUSH_MAX_MESSAGE``, ``JOBPUSH_MAX_USER_INFO``, ``JOBPUSH_MAX_CLIENT_DATA``,
        ``JOBPUSH_CLIENT_EVENT_RATE``, ``JOBPUSH_OUTBOX_SIZE``, ``JOBPUSH_LEASE``, ``JOBPUSH_LINGER``,
        ``JOBPUSH_STREAM_HEARTBEAT``, ``JOBPUSH_DRAIN_TIMEOUT``, ``JOBPUSH_GRACE``,
        ``JOBPUSH_SUBSCRIPTION_COUNT``; those of the store go for cancelling.

        Raises:
            ConfigurationError: If a setting is missing or wrong.
        """
        from . import routes  # it needs this module's names

        prefix = "JOBPUSH_"
        values = {name[len(prefix) :].lower(): value for name, value in app.config.items() if name.startswith(prefix)}
        config = Config.load(self._settings, values)
        config.require_credentials()
        ensure_token_settings(config)
        state = app.extensions["jobpush"] = GatewayState(config, self)
        routes.register(app, state)
        app.jinja_env.globals["jobpush_tags"] = jobpush_tags

    def authorize_channel(self, authorizer: ChannelAuthorizer) -> ChannelAuthorizer:
        """
        Decorate the function that says who may join private and presence channels.

        It is called in the request context with the user's id (``None``: nobody is signed in) and the name of
        the channel, and returns ``True``, ``False``, or for a presence channel a dict: what the other members
        see of the user. Channels of single users and tasks are not asked about: they are their owner's alone.
        """
        self.channel_authorizer = authorizer
        return authorizer


def create_app() -> Flask:
    """The stand-alone gateway, with its settings from the environment: ``gunicorn "jobpush.gateway:create_app()"``."""
    app = Flask(__name__)
    Gateway(app)
    return app


def current_gateway() -> GatewayState:
    """The gateway of the application that serves the present request."""
    state: GatewayState = current_app.extensions["jobpush"]
    return state


def jobpush_tags() -> Markup:
    """All that a page needs in its head: where the gateway is, and the script with client and elements."""
    key, root = escape(current_gateway().config.key), escape(request.script_root)
    return Markup(  # noqa: S704 - both are escaped
        f'<meta name="jobpush" data-key="{key}" data-root="{root}">\n'
        f'<script type="module" src="{root}/jobpush/static/{script_name()}"></script>'
    )
