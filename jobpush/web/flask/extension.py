"""The Flask extension: adds a gateway to an application."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Any

from flask import Flask, request
from markupsafe import Markup

from ...channels import unescape_id
from ...config import Config
from ...store.redis.topology import Topology
from ...tokens import ensure_token_settings
from . import routes
from .assets import page_tags
from .auth.request_user import current_user
from .auth.user_loader import import_user_loader
from .state import Callbacks, ChannelAuthorizer, GatewayState, Rerun, UserLoader, current_gateway


class Gateway:
    """
    A gateway inside a Flask application.

    Example::

        app = Flask(__name__)
        app.secret_key = "..."
        app.config.update(JOBPUSH_KEY="my-app", JOBPUSH_SECRET=SECRET, JOBPUSH_REDIS_URL="redis://localhost")
        gateway = Gateway(app, user_loader=lambda: session.get("user_id"))

        @gateway.authorize_channel
        def may_join(user_id, channel):
            return channel.startswith("private-team-") and user_id in team(channel)

    Args:
        app: The application, unless :meth:`init_app` follows.
        user_loader: Called in the request context of each handshake; returns the user's id, a pair of id
            and ``user_info`` (what other members of presence channels see), or ``None``.
        settings: Settings by their names in :class:`jobpush.config.Config`; they override ``app.config``.
    """

    def __init__(self, app: Flask | None = None, *, user_loader: UserLoader | None = None, **settings: Any) -> None:
        self._callbacks = Callbacks(user_loader)
        self._settings = settings
        if app is not None:
            self.init_app(app)

    @property
    def user_loader(self) -> UserLoader | None:
        """The function that returns the id of the request's user."""
        return self._callbacks.user_loader

    @user_loader.setter
    def user_loader(self, loader: UserLoader | None) -> None:
        self._callbacks.user_loader = loader

    def init_app(self, app: Flask) -> None:
        """
        Add the routes to an application: ``/app/<key>`` for WebSockets, ``/apps/<app_id>/…`` for the Pusher HTTP API,
        ``/jobpush/…`` for everything else.

        Each setting of :class:`jobpush.config.Config` can be a key of ``app.config``: ``JOBPUSH_`` and its upper-case
        name, for example ``JOBPUSH_REDIS_URL``.

        Raises:
            ConfigurationError: If a setting is missing or invalid.
        """
        values = {item.name: app.config.get(f"JOBPUSH_{item.name.upper()}") for item in fields(Config)}
        config = Config.load(self._settings, values)
        config.require_credentials()
        ensure_token_settings(config)
        Topology.parse(config.redis_url)  # fails here, not in the first request
        state = app.extensions["jobpush"] = GatewayState(config, self._callbacks)
        routes.register(app, state)
        app.jinja_env.globals["jobpush_tags"] = jobpush_tags

    def authorize_channel(self, authorizer: ChannelAuthorizer) -> ChannelAuthorizer:
        """
        Register the function that decides which users may join private and presence channels.

        It is called in the request context with the user's id (``None``: not signed in) and the channel's name. It
        returns ``True``, ``False``, or, for a presence channel, a dict: the ``user_info`` that other members see.
        It is not called for the channels of single users and tasks; only their owner may join those.
        """
        self._callbacks.channel_authorizer = authorizer
        return authorizer

    def on_rerun(self, function: Rerun) -> Rerun:
        """
        Register the function that runs an ended task again, when its user asks for it.

        It is called in the request context with the task's id, its name and its user's id. It publishes a task of its
        choice, and returns ``False`` to refuse. Without such a function no task can be run again.
        """
        self._callbacks.on_rerun = function
        return function

    def sign_out(self) -> int:
        """
        End the rights of the current request's user on all connections, which stay open without a user.

        Call it in the logout view, before the session is cleared. The user's connection tokens are revoked.

        Returns:
            The number of the user's connections.

        Raises:
            StoreError: If Redis does not answer.
        """
        state = current_gateway()
        user = current_user(state)
        return 0 if user is None else state.directory.sign_out(unescape_id(user.id))


def create_app() -> Flask:
    """Make the stand-alone gateway, configured by the environment: ``gunicorn "jobpush.gateway:create_app()"``."""
    app = Flask(__name__)
    gateway = Gateway(app)
    if name := os.environ.get("JOBPUSH_USER_LOADER"):
        load_user = import_user_loader(name)
        gateway.user_loader = lambda: load_user(request)
    return app


def jobpush_tags(nonce: str | None = None) -> Markup:
    """
    Return the tags that a page needs in its head: the gateway's address and the script with client and elements.

    Args:
        nonce: Of the page's Content-Security-Policy, if scripts need one.
    """
    return page_tags(current_gateway().config.key, request.script_root, nonce=nonce)
