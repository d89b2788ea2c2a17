"""
Every setting, with its default, its unit and its reason.

A setting is looked for in this order: keyword argument, ``app.config["JOBPUSH_X"]`` (Flask) or
``celery_app.conf.jobpush_x`` (Celery), environment variable ``JOBPUSH_X``, default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from .errors import ConfigurationError, MissingSetting

#: Environment variable, set by :mod:`jobpush.gunicorn_conf` and not for people: the folder, theirs alone, in which the
#: processes of one server add up their metrics.
METRICS_FOLDER = "JOBPUSH_METRICS_DIR"


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of one jobpush; ``JOBPUSH_`` and the upper-case name is the name elsewhere."""

    # -- Redis and the application -------------------------------------------------------------------
    #: redis://, rediss:// or unix://. Celery's broker is taken where it is a Redis and nothing is set.
    redis_url: str = field(default="redis://localhost:6379/0", repr=False)
    #: Begins every key, so that several applications can share one Redis.
    prefix: str = "jobpush"
    #: Digits only, for some of Pusher's SDKs insist.
    app_id: str = "1"
    #: Public name of the application; browsers connect to /app/<key>. No default.
    key: str = ""
    #: Signs channels, users and HTTP requests. No default.
    secret: str = field(default="", repr=False)
    #: What signed them before: still good, and nothing is signed by it any more. See SECURITY.md on how to rotate.
    previous_secret: str = field(default="", repr=False)
    #: Algorithms of connection tokens, comma-separated. Empty: HS256, and with a public key RS256, ES256 and EdDSA too.
    jwt_algorithms: tuple[str, ...] = ()
    #: PEM text or file of the public key with which an identity provider's tokens are checked.
    jwt_public_key: str = ""

    # -- worker --------------------------------------------------------------------------------------
    #: Seconds between two events of one task; the eye takes no more than ten a second for movement. Where several tasks
    #: of a process tell something within a tenth of it (0.02 s at most), it goes to Redis together.
    min_interval: float = 0.1
    #: Seconds that a caller or a task waits for Redis at most, once; then the circuit breaker opens.
    publish_timeout: float = 0.25
    #: Seconds after which a Redis that failed is tried again.
    retry_interval: float = 1.0
    #: Seconds that the end of a process waits for the last events to be published.
    flush_timeout: float = 2.0
    #: Seconds between two looks at the head of each queue, whose tasks are told their places; 0: none. Redis only.
    place_interval: float = 2.0
    #: Seconds from a cancel request to the termination of a task that has not heeded it.
    cancel_grace: float = 10.0
    #: Seconds within which it is known that a worker died: its tasks are LOST then.
    lost_after: float = 15.0
    #: Whether publishing is timed in prometheus-client's own registry; see :mod:`jobpush.reporting.metrics`.
    worker_metrics: bool = False

    # -- store ---------------------------------------------------------------------------------------
    #: Seconds that the snapshot of an unfinished task outlives its last event.
    task_ttl: int = 86_400
    #: Seconds that a finished task stays visible.
    final_ttl: int = 3_600
    #: Tasks that the index of a user holds; older ones are no longer listed.
    max_tasks: int = 100
    #: Events that the history of a topic holds (about: Redis trims whole nodes).
    history_size: int = 1_000
    #: Seconds that the history of a topic outlives its last event.
    history_ttl: int = 3_600
    #: Seconds that the last event of a cache channel is kept. Pusher keeps it up to 30 minutes.
    cache_ttl: int = 1_800
    #: Bytes of an event's data on the wire. Pusher's own limit is 10 KB.
    max_data: int = 10_240

    # -- Pusher protocol -----------------------------------------------------------------------------
    #: Seconds of silence after which either end pings. Pusher's value.
    activity_timeout: int = 120
    #: Seconds that the answer to a ping may take. Pusher's value.
    pong_timeout: float = 30.0
    #: Seconds after which a connection without a channel and a user is closed if it says nothing but pings; 0: never.
    #: Pusher's value.
    idle_timeout: int = 86_400
    #: Seconds within which a connection must sign in or join an authorised channel; 0: any time, for stock clients may
    #: use public channels only. Pusher's is 30.
    signin_timeout: float = 0.0
    #: Channels of one connection; each costs memory here and in Redis.
    max_channels: int = 1_000
    #: Bytes of the user_info of one user. Pusher's value.
    max_user_info: int = 1_024
    #: Users in one presence channel; 0: any number. Pusher's value.
    max_members: int = 100
    #: Users whom one connection may watch. Pusher's value.
    max_watchlist: int = 100
    #: Bytes of one message of a client: a full watchlist, or twice-encoded client data, has room.
    max_message: int = 65_536
    #: Bytes of the data of a client event. Pusher's value.
    max_client_data: int = 10_240
    #: Client events of one connection per second. Pusher's value.
    client_event_rate: int = 10
    #: Messages of one connection per second, over ten seconds; and ``max_channels`` more, for some begin with as many
    #: subscriptions. Pings count. 0: any number. Who sends more is closed with 4100.
    message_rate: int = 100

    # -- presence ------------------------------------------------------------------------------------
    #: Seconds that a lost connection still counts: browsing from page to page makes no sound. Leaving counts at once.
    grace: float = 5.0
    #: Whether those who hear a channel are told how many they are. Off, as with Pusher: it costs a message per join.
    subscription_count: bool = False

    # -- Pusher HTTP API -----------------------------------------------------------------------------
    #: Channels of one HTTP request; Pusher's value. ``jobpush.trigger()`` in Python has no limit.
    max_channels_per_trigger: int = 100
    #: Events of one batch. Pusher's value.
    max_batch: int = 10
    #: Bytes of a request's body: a full batch has room, even if each character of its data is escaped.
    max_body: int = 1_048_576
    #: Seconds that a request's clock may be off, either way. Pusher's value.
    max_clock_skew: int = 600

    # -- gateway -------------------------------------------------------------------------------------
    #: Origins that may connect beside the host's own, comma-separated; ``*`` is any.
    allowed_origins: tuple[str, ...] = ()
    #: Connections of one process; 0: as many as its limit of open files leaves room for. Here and in all that follows,
    #: who is too many is told 4100, on which stock clients come back after a second.
    max_connections: int = 0
    #: Connections that one user may have to one process: as many tabs, and ghosts of phones in tunnels. 0: any number.
    max_connections_per_user: int = 100
    #: Connections that one address may have to one process; a whole office can stand behind one. 0: any number.
    max_connections_per_address: int = 1_000
    #: Handshakes a second of one address with one process, twice as many at once. 0: any number.
    handshake_rate: float = 100.0
    #: Proxies that say by ``X-Forwarded-For`` who their client is, comma-separated: addresses, networks, or ``unix``.
    #: Nobody is believed by default; then loopback and private addresses, which a proxy has, are not limited.
    trusted_proxies: tuple[str, ...] = ()
    #: Whether WebSockets without TLS, here or at the proxy, are told to come back with it. Off, as with Pusher.
    tls_only: bool = False
    #: Bytes that wait for one slow reader at most, beside what the kernel holds; then it is closed.
    outbox_size: int = 1_048_576
    #: Seconds after which a gateway that was killed is no longer counted. Refreshed three times as often.
    lease: float = 15.0
    #: Seconds that a topic stays subscribed after its last reader; browsing from page to page costs nothing.
    linger: float = 5.0
    #: Seconds without an event after which an event stream gets a comment, so that no proxy cuts it.
    stream_heartbeat: float = 15.0
    #: Seconds that a client may take to send the head of a request, and its body beside a second for 500 bytes; under
    #: ``jobpush.gunicorn_conf``. Where the application is wrapped in another, the environment's counts.
    request_timeout: float = 10.0
    #: Seconds that a client may take to send a WebSocket message from its first byte to its last.
    message_timeout: float = 30.0
    #: Seconds over which a gateway that stops spreads the closing of many connections. Give more in the environment:
    #: under ``jobpush.gunicorn_conf`` gunicorn waits as long as that says.
    drain_timeout: float = 5.0
    #: Who may read /jobpush/metrics: who sends it as ``Authorization: Bearer …``. Nobody, where it is not set.
    metrics_token: str = field(default="", repr=False)

    # -- webhooks ------------------------------------------------------------------------------------
    #: Where events are told, comma-separated. Which ones: ``https://host/#kinds=member_added+client_event&prefix=chat-``.
    webhook_urls: tuple[str, ...] = field(default=(), repr=False)
    #: Whether addresses inside may be called. Off, so that a slip in a URL opens nothing that only we can reach.
    webhook_allow_private: bool = False
    #: Seconds that events are gathered for one request, of 20 at most. Both are Pusher's own numbers.
    webhook_batch_interval: float = 0.25
    #: Seconds that a connection may take.
    webhook_connect_timeout: float = 5.0
    #: Seconds that a whole try may take, the connection included; then the next one follows.
    webhook_timeout: float = 10.0
    #: Seconds from the first try to the second, about; doubled with each further one.
    webhook_retry_delay: float = 5.0
    #: Seconds between two tries at most. A Redis broker delivers twice what waits past its visibility timeout (1 h).
    webhook_max_countdown: float = 1_800.0
    #: Seconds after an event at which its delivery is given up.
    webhook_give_up_after: float = 86_400.0
    #: Seconds after which the events of a worker that vanished are taken over by another.
    webhook_claim_after: float = 60.0

    @classmethod
    def load(cls, overrides: Mapping[str, Any], settings: Mapping[str, Any]) -> Config:
        """
        Gather the settings from keywords, from an application and from the environment.

        Args:
            overrides: Keyword arguments, by the names of this class; ``None`` counts as not given.
            settings: What the application's configuration says, by the same names.

        Raises:
            ConfigurationError: If a keyword is unknown, or a value is not of its setting's kind.
        """
        known = {item.name: item for item in fields(cls)}
        unknown = sorted(set(overrides) - set(known))
        if unknown:
            raise ConfigurationError(f"unknown setting {unknown[0]!r}; known are: {', '.join(sorted(known))}")
        values = {}
        for name, item in known.items():
            variable = f"JOBPUSH_{name.upper()}"
            for value in (overrides.get(name), settings.get(name), os.environ.get(variable)):
                if value is not None:
                    values[name] = _converted(variable, value, item.default)
                    break
        return cls(**values)

    @property
    def secrets(self) -> tuple[str, ...]:
        """All whose signatures are good; the first one signs."""
        return (self.secret, self.previous_secret) if self.previous_secret else (self.secret,)

    def require_credentials(self) -> None:
        """
        Make sure that key and secret are there, and fit for Pusher's SDKs.

        Raises:
            MissingSetting: If one is not set.
            ConfigurationError: If the app id is no number.
        """
        for name, value in (("JOBPUSH_KEY", self.key), ("JOBPUSH_SECRET", self.secret)):
            if not value:
                raise MissingSetting(name, "make one with: python -c 'import secrets; print(secrets.token_hex(16))'")
        if not self.app_id.isdecimal():
            raise ConfigurationError(f"JOBPUSH_APP_ID must be digits only, not {self.app_id!r}: Pusher's SDKs insist")


def _converted(variable: str, value: Any, default: Any) -> Any:
    """``value`` as the type of its setting's default; text comes from the environment."""
    try:
        if isinstance(default, bool):
            return _to_bool(value)
        if isinstance(default, int):
            return int(value)
        if isinstance(default, float):
            return float(value)
        if isinstance(default, tuple):
            items = value.split(",") if isinstance(value, str) else value
            return tuple(str(item).strip() for item in items if str(item).strip())
        return str(value)
    except (TypeError, ValueError) as exc:
        kind = type(default).__name__
        raise ConfigurationError(f"{variable} must be of the kind {kind}, not {value!r}") from exc


def _to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    words = {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
    }
    if str(value).lower() not in words:
        raise ValueError(value)
    return words[str(value).lower()]
