"""
The settings of jobpush.

Each setting is looked up in this order: keyword argument, ``app.config["JOBPUSH_X"]`` (Flask) or
``celery_app.conf.jobpush_x`` (Celery), environment variable ``JOBPUSH_X``, default.

The reference page of the documentation is generated from the comments. A number's comment begins with its unit.
"""

from __future__ import annotations

import difflib
import logging
import math
import os
import re
from collections.abc import Mapping
from configparser import ConfigParser
from dataclasses import dataclass, field, fields
from typing import Any

from .errors import ConfigurationError, MissingSetting

logger = logging.getLogger("jobpush")

#: Environment variable set by :mod:`jobpush.gunicorn_conf`: the private folder in which the processes of one server
#: share their metrics.
METRICS_FOLDER = "JOBPUSH_METRICS_DIR"
#: Variables other than the settings of :class:`Config`.
_OTHER_VARIABLES = (METRICS_FOLDER, "JOBPUSH_LOG_FORMAT", "JOBPUSH_USER_LOADER")
#: Variables of the demo site begin with this.
_DEMO_VARIABLES = "JOBPUSH_DEMO_"

#: Characters of a secret, at least.
_MIN_SECRET = 8
#: Characters that the key cannot contain: it is a path segment, and precedes a colon in signatures.
_UNFIT_KEY = re.compile(r"[\s/:?#%]")


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of one jobpush. Outside Python, the name is ``JOBPUSH_`` and the name in upper case."""

    # -- Redis and the application -------------------------------------------------------------------
    #: Redis server: redis://, rediss://, unix:// or redis+sentinel://user:password@host1,host2/primary/0 or
    #: redis+cluster://host1,host2. Required, except in a Celery application whose broker is a Redis: that one is used.
    redis_url: str = field(default="", repr=False)
    #: First part of every Redis key and channel. Applications with different prefixes can share a Redis server.
    prefix: str = "jobpush"
    #: Id of the application in the Pusher HTTP API. Digits only, as some Pusher SDKs require.
    app_id: str = "1"
    #: Public name of the application. Browsers connect to /app/<key>. Required by gateways.
    key: str = ""
    #: Secret that signs channels, users, tokens and HTTP requests. Required by gateways.
    secret: str = field(default="", repr=False)
    #: Secret used before the current one: its signatures stay valid. See SECURITY.md on rotation.
    previous_secret: str = field(default="", repr=False)
    #: Algorithms of connection tokens, comma-separated. Empty: HS256; with a public key also RS256, ES256, EdDSA.
    jwt_algorithms: tuple[str, ...] = ()
    #: Public key of an identity provider that issues connection tokens: PEM text, or the path of a file.
    jwt_public_key: str = ""

    # -- worker --------------------------------------------------------------------------------------
    #: Seconds between two progress events of one task. Tasks of one process that change within a tenth of this (0.02 s
    #: at most) are sent to Redis together.
    min_interval: float = 0.1
    #: Seconds that a caller or a task waits for Redis, once. Then the circuit breaker opens and calls fail fast.
    publish_timeout: float = 0.25
    #: Seconds between two attempts to reach Redis after a failure.
    retry_interval: float = 1.0
    #: Seconds that an ending process waits until its last events are published.
    flush_timeout: float = 2.0
    #: Seconds between two updates of the queue positions of waiting tasks; 0: no positions. Redis brokers only.
    place_interval: float = 2.0
    #: Seconds between a cancel request and the termination of a task that still runs.
    cancel_grace: float = 10.0
    #: Seconds until a dead worker is noticed. Its tasks become LOST then.
    lost_after: float = 15.0
    #: Measure publishing in prometheus-client's default registry; see :mod:`jobpush.reporting.worker_metrics`.
    worker_metrics: bool = False

    # -- store ---------------------------------------------------------------------------------------
    #: Seconds that the snapshot of an unfinished task is kept after its last event.
    task_ttl: int = 86_400
    #: Seconds that a finished task is kept.
    final_ttl: int = 3_600
    #: Tasks listed per user. Beyond it the oldest ended tasks are dropped, then the oldest waiting ones.
    max_tasks: int = 10_000
    #: Tasks in one page of a list, and in the snapshots after a sign-in. Running tasks come first.
    tasks_per_page: int = 100
    #: Lines kept in the log of a task. Beyond it, and beyond ``log_bytes``, the oldest lines are dropped.
    log_lines: int = 50_000
    #: Bytes kept in the log of a task.
    log_bytes: int = 4_194_304
    #: Notifications kept in the inbox of a user. Beyond it the oldest are dropped.
    inbox_size: int = 200
    #: Seconds that a notification is kept in an inbox.
    inbox_ttl: int = 2_592_000
    #: Events kept in the history of a topic. Approximate: Redis trims whole nodes.
    history_size: int = 1_000
    #: Seconds that the history of a topic is kept after its last event.
    history_ttl: int = 3_600
    #: Seconds that the last event of a cache channel is kept. Pusher keeps it for up to 30 minutes.
    cache_ttl: int = 1_800
    #: Bytes of the data of one event. Pusher's limit is 10 KB.
    max_data: int = 10_240

    # -- Pusher protocol -----------------------------------------------------------------------------
    #: Seconds of silence after which the gateway sends a ping, so that no proxy with an idle limit of 60 s cuts in.
    ping_interval: float = 25.0
    #: Seconds of silence after which a client sends a ping, and the gateway at the latest. Pusher's value.
    activity_timeout: int = 120
    #: Seconds until a ping must be answered. Pusher's value.
    pong_timeout: float = 30.0
    #: Seconds until a connection without channel and user is closed if it sends only pings; 0: never. Pusher's value.
    idle_timeout: int = 86_400
    #: Seconds until a connection must sign in or subscribe to an authorised channel; 0: no limit, since stock clients
    #: may use public channels only. Pusher's value is 30.
    signin_timeout: float = 0.0
    #: Channels per connection. Each costs memory in the gateway and in Redis.
    max_channels: int = 1_000
    #: Bytes of the user_info of one user. Pusher's value.
    max_user_info: int = 1_024
    #: Users in one presence channel; 0: no limit. Pusher's value.
    max_members: int = 100
    #: Users on the watchlist of one connection. Pusher's value.
    max_watchlist: int = 100
    #: Bytes of one message from a client. Leaves room for a full watchlist and for client data that is encoded twice.
    max_message: int = 65_536
    #: Bytes of the data of a client event. Pusher's value.
    max_client_data: int = 10_240
    #: Client events per connection and second. Pusher's value.
    client_event_rate: int = 10
    #: Messages per connection and second, averaged over ten seconds, plus ``max_channels`` for the subscriptions at the
    #: start; pings count. 0: no limit. A connection that exceeds it is closed with code 4100.
    message_rate: int = 100

    # -- presence ------------------------------------------------------------------------------------
    #: Seconds that a lost connection still counts as present, to hide page changes. Leaving takes effect at once.
    grace: float = 5.0
    #: Whether subscribers of a channel receive its subscription count. Costs a message per subscription. Off at Pusher.
    subscription_count: bool = False

    # -- Pusher HTTP API -----------------------------------------------------------------------------
    #: Channels per HTTP request. Pusher's value. ``jobpush.trigger()`` in Python has no limit.
    max_channels_per_trigger: int = 100
    #: Events per batch. Pusher's value.
    max_batch: int = 10
    #: Bytes of a request body. Leaves room for a full batch with every character of its data escaped.
    max_body: int = 1_048_576
    #: Seconds that the clock of a request may differ from ours. Pusher's value.
    max_clock_skew: int = 600

    # -- gateway -------------------------------------------------------------------------------------
    #: Origins that may connect in addition to the gateway's own host, comma-separated; ``*`` allows any origin.
    allowed_origins: tuple[str, ...] = ()
    #: Connections per process; 0: as many as its limit of open files allows. A connection above this or one of the
    #: following limits is closed with code 4100; stock clients retry after a second.
    max_connections: int = 0
    #: Connections per user and process: open tabs, and connections that are lost but not yet noticed. 0: no limit.
    max_connections_per_user: int = 100
    #: Connections per address and process. A whole office can share one address. 0: no limit.
    max_connections_per_address: int = 1_000
    #: Handshakes per second, address and process, with bursts of twice as many. 0: no limit.
    handshake_rate: float = 100.0
    #: Proxies whose ``X-Forwarded-For`` is trusted, comma-separated: addresses, networks, or ``unix``. Without it, the
    #: per-address limits do not apply to loopback and private addresses, which are usually proxies.
    trusted_proxies: tuple[str, ...] = ()
    #: Whether WebSocket connections without TLS, here or at the proxy, are refused with code 4000. Off, as at Pusher.
    tls_only: bool = False
    #: Bytes that wait for one slow reader, in addition to the kernel's buffer. Then the connection is closed.
    outbox_size: int = 1_048_576
    #: Seconds until a gateway that was killed no longer counts. It renews its lease three times as often.
    lease: float = 15.0
    #: Seconds that a gateway stays subscribed to a topic after its last reader has left, for the next page.
    linger: float = 5.0
    #: Seconds after which an event stream sends a comment, so that no proxy closes it; at most 20, since a page opens
    #: a stream again that is silent for 25 seconds.
    stream_heartbeat: float = 15.0
    #: Seconds that a client may take to send the head of a request; for the body, a second per 500 bytes is added.
    #: Needs ``jobpush.gunicorn_conf``. If a WSGI application wraps yours, set it in the environment.
    request_timeout: float = 10.0
    #: Seconds that a client may take to send one WebSocket message, from its first byte to its last.
    message_timeout: float = 30.0
    #: Seconds over which a stopping gateway spreads the closing of its connections. Set it in the environment:
    #: ``jobpush.gunicorn_conf`` derives gunicorn's graceful_timeout from it.
    drain_timeout: float = 5.0
    #: Token that gives access to /jobpush/metrics, as ``Authorization: Bearer …``. Empty: no access.
    metrics_token: str = field(default="", repr=False)

    # -- webhooks ------------------------------------------------------------------------------------
    #: Endpoints that receive webhooks, comma-separated. A fragment selects events:
    #: ``https://host/#kinds=member_added+client_event&prefix=chat-``.
    webhook_urls: tuple[str, ...] = field(default=(), repr=False)
    #: Whether webhooks may be sent to private addresses. Off, so that a mistake in a URL exposes no internal service.
    webhook_allow_private: bool = False
    #: Seconds that events are collected for one request of at most 20 events. Pusher's values.
    webhook_batch_interval: float = 0.25
    #: Seconds until a connection to an endpoint must be established.
    webhook_connect_timeout: float = 5.0
    #: Seconds for a whole attempt, including the connection. Then the next attempt is scheduled.
    webhook_timeout: float = 10.0
    #: Seconds between the first and the second attempt, approximately. Doubles with every further attempt.
    webhook_retry_delay: float = 5.0
    #: Seconds between two attempts, at most. A Redis broker redelivers messages after its visibility timeout (1 h).
    webhook_max_countdown: float = 1_800.0
    #: Seconds after an event until its delivery is given up.
    webhook_give_up_after: float = 86_400.0
    #: Seconds until another worker takes over the webhook events of a worker that vanished.
    webhook_claim_after: float = 60.0

    @classmethod
    def load(cls, overrides: Mapping[str, Any], settings: Mapping[str, Any]) -> Config:
        """
        Collect the settings from keywords, the application's configuration and the environment.

        Args:
            overrides: Keyword arguments, by the names of this class; ``None`` counts as not given.
            settings: The application's configuration, by the same names.

        Raises:
            ConfigurationError: If a keyword is unknown, or a value has the wrong type or is out of range.
        """
        known = {item.name: item for item in fields(cls)}
        unknown = sorted(set(overrides) - set(known))
        if unknown:
            raise ConfigurationError(f"unknown setting {unknown[0]!r}; the settings are: {', '.join(sorted(known))}")
        values = {}
        for name, item in known.items():
            for value in (overrides.get(name), settings.get(name), os.environ.get(variable_of(name))):
                if value is not None:
                    values[name] = _converted(variable_of(name), value, item.default)
                    break
        config = cls(**values)
        if not config.prefix or re.search(r"[\s{}]", config.prefix):
            raise ConfigurationError(
                f"JOBPUSH_PREFIX must be text without spaces and braces (braces select a slot); not {config.prefix!r}"
            )
        if config.stream_heartbeat > _MAX_STREAM_HEARTBEAT:
            raise ConfigurationError(
                f"JOBPUSH_STREAM_HEARTBEAT must be at most {_MAX_STREAM_HEARTBEAT:g}: a page takes a stream that is "
                f"silent for 25 seconds for dead; not {config.stream_heartbeat!r}"
            )
        return config

    @property
    def secrets(self) -> tuple[str, ...]:
        """The accepted secrets. The first one signs."""
        return (self.secret, self.previous_secret) if self.previous_secret else (self.secret,)

    def require_credentials(self) -> None:
        """
        Check that key and secret are set, and that the app id fits Pusher's SDKs.

        Raises:
            MissingSetting: If one is not set.
            ConfigurationError: If a secret is short, the key does not fit a URL, or the app id is not a number.
        """
        for name, value in (("JOBPUSH_KEY", self.key), ("JOBPUSH_SECRET", self.secret)):
            if not value:
                raise MissingSetting(name, "make one with: python -c 'import secrets; print(secrets.token_hex(16))'")
        if _UNFIT_KEY.search(self.key):
            raise ConfigurationError(
                f"JOBPUSH_KEY is part of URLs and signatures: no spaces and none of / : ? # %; not {self.key!r}"
            )
        for name, value in (("JOBPUSH_SECRET", self.secret), ("JOBPUSH_PREVIOUS_SECRET", self.previous_secret)):
            if value and len(value.strip()) < _MIN_SECRET:
                raise ConfigurationError(
                    f"{name} has {len(value.strip())} characters and can be guessed; use {_MIN_SECRET} or more, for "
                    "example from: python -c 'import secrets; print(secrets.token_hex(16))'"
                )
        if not self.app_id.isdecimal():
            raise ConfigurationError(f"JOBPUSH_APP_ID must be digits only, as Pusher SDKs require; not {self.app_id!r}")


def variable_of(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"JOBPUSH_{name.upper()}"


def current_environment() -> dict[str, str]:
    """Return a copy of the environment; other threads may change it meanwhile."""
    values = {name: os.environ.get(name) for name in list(os.environ)}
    return {name: value for name, value in values.items() if value is not None}


def unknown_variables() -> dict[str, str]:
    """Return the ``JOBPUSH_…`` variables of the environment that are not settings, each with a hint for the user."""
    known = [item.name.upper() for item in fields(Config)]
    hints = {}
    for name in sorted(os.environ):
        short = name.removeprefix("JOBPUSH_")
        if short not in (name, *known) and name not in _OTHER_VARIABLES and not name.startswith(_DEMO_VARIABLES):
            nearest = difflib.get_close_matches(short, known, n=1)
            hints[name] = (
                f"did you mean JOBPUSH_{nearest[0]}?" if nearest else "'jobpush config --all' lists the settings"
            )
    return hints


def warn_about_unknown_variables() -> None:
    """Log a warning for each ``JOBPUSH_…`` variable that is not a setting. Called once when a process starts."""
    for name, hint in unknown_variables().items():
        logger.warning("The environment variable %s is ignored: there is no such setting; %s", name, hint)


#: A variable of a shell, of Compose, of Kubernetes or of a template.
_PLACEHOLDER = re.compile(r"^\$\w+$|\$\{\w+[^}]*\}|\$\(\w+\)|\{\{.*\}\}")
#: The widget's ``MAX_SILENCE_MS`` less a delay of the network.
_MAX_STREAM_HEARTBEAT = 20.0
#: Timeouts, leases and lifetimes that nothing works with if they are 0.
_ABOVE_ZERO = frozenset(
    (
        "publish_timeout lost_after task_ttl final_ttl inbox_ttl history_ttl cache_ttl activity_timeout pong_timeout"
        " lease stream_heartbeat request_timeout message_timeout webhook_connect_timeout webhook_timeout"
        " webhook_claim_after"
    ).split()
)


def _converted(variable: str, value: Any, default: Any) -> Any:
    """Convert a value, text if it comes from the environment, to the type of its setting's default."""
    if isinstance(value, str) and (placeholder := _PLACEHOLDER.search(value)):
        raise ConfigurationError(
            f"{variable} contains {placeholder[0]!r}, a variable without its value; set the value, or have"
            " the shell or deployment tool replace it"
        )
    try:
        if isinstance(default, bool):
            return ConfigParser.BOOLEAN_STATES[str(value).lower()]
        if isinstance(default, (int, float)):
            number = type(default)(value)
            if not 0 <= number < math.inf:
                raise ConfigurationError(f"{variable} must be a finite number that is not negative, not {value!r}")
            if not number and variable.removeprefix("JOBPUSH_").lower() in _ABOVE_ZERO:
                raise ConfigurationError(f"{variable} must be above 0, not {value!r}")
            return number
        if isinstance(default, tuple):
            items = value.split(",") if isinstance(value, str) else value
            return tuple(str(item).strip() for item in items if str(item).strip())
        return str(value)
    except (TypeError, ValueError, KeyError, OverflowError) as exc:
        raise ConfigurationError(f"{variable} must be of type {type(default).__name__}, not {value!r}") from exc
