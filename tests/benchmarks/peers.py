"""
The measured servers, jobpush included: how to start them, connect to them and publish to them.

The servers themselves are in ``servers/``, each written as its documentation recommends.
"""

from __future__ import annotations

import os
import string
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from jobpush.config import Config
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.store.keys import bucket_tags

from .native import compiled
from .processes import ROOT, Cores

SERVERS = Path(__file__).parent / "servers"
#: Virtual environment with the packages of the peers, which jobpush does not need.
VENV = ROOT / ".venv-bench" / "bin"
#: nginx's nchan module, unpacked from Debian's package.
NCHAN_MODULE = ROOT / ".venv-bench" / "nchan" / "usr" / "lib" / "nginx" / "modules" / "ngx_nchan_module.so"


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a server runs, and for how many users and connections."""

    port: int
    redis: EmbeddedRedis
    folder: Path
    cores: Cores
    users: int
    workers: int = 1
    connections: int = 0


@dataclass(frozen=True)
class Peer:
    """
    A measured server.

    Args:
        key: Name on the command line.
        title: Name in the tables.
        server: File in ``servers/``.
        path: Path that a client requests; templates as in ``native/load.c``.
        steps: Opening of a connection: a text to wait for, and the message to send then.
        answer: A message of the server, and the reply that it always gets.
        channel: Redis channel from which the server receives the events of group ``{g}``.
        message: Message published there; ``{m}`` is the payload with its mark.
    """

    key: str
    title: str
    server: str
    path: str = "/{g}"
    steps: Sequence[tuple[str, str]] = ()
    answer: tuple[str, str] | None = None
    channel: str = "{g}"
    message: str = "{m}"

    def command(self, stage: Stage) -> list[str]:
        """Return the program and its arguments."""
        raise NotImplementedError

    def environment(self, stage: Stage) -> Mapping[str, str]:
        """Return the variables to add to the environment of this process."""
        return {"REDIS_URL": stage.redis.url, "PORT": str(stage.port)}

    def client(self, stage: Stage) -> list[str]:
        """Return the options of ``native/load.c`` for this server."""
        arguments = ["--path", self.path]
        for expected, reply in self.steps:
            arguments += ["--step", expected, reply]
        if self.answer is not None:
            arguments += ["--answer", *self.answer]
        return arguments

    def publisher(self, stage: Stage, size: int) -> list[str]:
        """Return the options of ``native/publish.c`` for events of ``size`` bytes."""
        address = stage.redis.url.removeprefix("redis://").removesuffix("/0")
        return ["--redis", address, "--channel", self.channel, "--message", self.message]


CREDENTIALS = {"key": "bench", "secret": "secret of the benchmark"}


@dataclass(frozen=True)
class JobPush(Peer):
    """jobpush. The publisher sends what the store's scripts publish, so the scripts are not part of the measurement."""

    settings: Mapping[str, str] = field(default_factory=dict)
    #: Whether a connection signs in with a token in its first message instead of a session cookie.
    has_token: bool = False

    def publisher(self, stage: Stage, size: int) -> list[str]:
        return [*super().publisher(stage, size), "--tags", ",".join(bucket_tags())]

    def command(self, stage: Stage) -> list[str]:
        command = [sys.executable, "-m", "gunicorn", "--config", "python:jobpush.gunicorn_conf"]
        command += ["--bind", f"127.0.0.1:{stage.port}", "--workers", str(stage.workers), "--log-level", "warning"]
        return [*command, "tests.benchmarks.servers.jobpush_site:create_app()"]

    def environment(self, stage: Stage) -> Mapping[str, str]:
        credentials = {f"JOBPUSH_{name.upper()}": value for name, value in CREDENTIALS.items()}
        return {"JOBPUSH_REDIS_URL": stage.redis.url, **credentials, **self.settings}

    def client(self, stage: Stage) -> list[str]:
        from .servers.jobpush_site import session_cookies, tokens

        values = stage.folder / "values"
        if not values.exists():
            config = Config(**CREDENTIALS)
            values.write_text("\n".join((partial(tokens, config) if self.has_token else session_cookies)(stage.users)))
        header = () if self.has_token else ("--header", "Cookie: {v}")
        return [*super().client(stage), "--values", str(values), *header]


#: In the templates, {g} is a group of connections with the same events, {s} a stream, {q} a sequence number in it.
_SUBSCRIBE = '{"event":"pusher:subscribe","data":{"channel":"news-{g}"}}'
_EVENT = '{d} - 0 1 -\n"event":"bench","data":"{m}"'
_SNAPSHOT = '{d} task-{s} {q} 0 -\n"event":"jobpush:task","data":"{m}"'

#: A stock Pusher client on a signed-in page, subscribed to a public channel.
OURS = JobPush(
    "ours",
    "jobpush",
    "jobpush_site.py",
    path="/app/bench?protocol=7",
    steps=(("pusher:connection_established", _SUBSCRIBE), ("pusher_internal:subscription_succeeded", "")),
    channel="jobpush:{{b}}:0:channel:news-{g}",
    message=_EVENT,
)
#: jobpush's own client: the handshake subscribes it to its user's channel.
OURS_PER_USER = JobPush(
    "ours",
    "jobpush",
    "jobpush_site.py",
    path="/app/bench?protocol=7&client=jobpush",
    steps=(("pusher_internal:subscription_succeeded", ""),),
    channel="jobpush:{{b}}:0:user:{g}",
    message=_EVENT,
)
#: The same with snapshots of tasks, of which only the newest counts; one user may have all connections.
OURS_SNAPSHOTS = replace(OURS_PER_USER, message=_SNAPSHOT, settings={"JOBPUSH_MAX_CONNECTIONS_PER_USER": "0"})
#: The same with a task for each user: a connection is ready when the snapshot has arrived.
OURS_WITH_TASKS = replace(OURS_PER_USER, steps=(('"event":"jobpush:task"', ""),))
#: The same, with sign-in by token.
OURS_WITH_TOKEN = replace(
    OURS_WITH_TASKS,
    key="ours-token",
    title="jobpush, signed in by a token",
    steps=(
        ("pusher:connection_established", '{"event":"jobpush:signin","data":{"token":"{v}"}}'),
        ('"event":"jobpush:task"', ""),
    ),
    has_token=True,
)
#: jobpush's own client, also subscribed to a public channel: two channels on one socket.
OURS_TWO_CHANNELS = JobPush(
    "ours-two-channels",
    "jobpush, two channels a socket",
    "jobpush_site.py",
    path="/app/bench?protocol=7&client=jobpush",
    steps=(
        ("pusher_internal:subscription_succeeded", _SUBSCRIBE),
        ("pusher_internal:subscription_succeeded", ""),
    ),
    channel="jobpush:{{b}}:0:channel:news-{g}",
    message=_EVENT,
)


_READY = (("ready", ""),)


@dataclass(frozen=True)
class Gunicorn(Peer):
    """A Flask application on gunicorn."""

    arguments: Sequence[str] = ()

    def command(self, stage: Stage) -> list[str]:
        command = [str(VENV / "python"), "-m", "gunicorn", *self.arguments, "--workers", str(stage.workers)]
        command += ["--bind", f"127.0.0.1:{stage.port}", "--log-level", "warning", "--chdir", str(SERVERS)]
        return [*command, f"{self.server.removesuffix('.py')}:app"]


@dataclass(frozen=True)
class Python(Peer):
    """A Python program with its own server."""

    def command(self, stage: Stage) -> list[str]:
        return [str(VENV / "python"), str(SERVERS / self.server)]


@dataclass(frozen=True)
class Node(Peer):
    """A Node.js program."""

    def command(self, stage: Stage) -> list[str]:
        return ["node", str(SERVERS / self.server)]


@dataclass(frozen=True)
class Channels(Peer):
    """An ASGI application on uvicorn."""

    def command(self, stage: Stage) -> list[str]:
        command = [str(VENV / "python"), "-m", "uvicorn", "--loop", "uvloop", "--log-level", "warning"]
        command += ["--port", str(stage.port), "--workers", str(stage.workers), "--app-dir", str(SERVERS)]
        return [*command, f"{self.server.removesuffix('.py')}:application"]

    def publisher(self, stage: Stage, size: int) -> list[str]:
        # {"type": "event", "text": …} in MessagePack; the length of the text takes one byte below 256, and two above.
        length = b"\xd9%c" % size if size < 256 else b"\xda" + size.to_bytes(2, "big")
        message = os.fsdecode(b"\x82\xa4type\xa5event\xa4text%b{m}" % length)
        return [*super().publisher(stage, size)[:-1], message]


@dataclass(frozen=True)
class Nchan(Peer):
    """Debian's nginx with its nchan module. Events are POSTed, because it has no other way to publish."""

    def command(self, stage: Stage) -> list[str]:
        template = string.Template((SERVERS / self.server).read_text())
        values = {"MODULE": str(NCHAN_MODULE), "PORT": str(stage.port)}
        (stage.folder / "nginx.conf").write_text(template.safe_substitute(values))
        return ["/usr/sbin/nginx", "-p", str(stage.folder), "-c", "nginx.conf"]

    def publisher(self, stage: Stage, size: int) -> list[str]:
        return ["--http", f"127.0.0.1:{stage.port}", "--path", "/publish/{g}", "--message", "{m}"]


@dataclass(frozen=True)
class Wall(Peer):
    """A loop that only sends: the limit of the machine. It generates its own events."""

    frames: int = 1

    def command(self, stage: Stage) -> list[str]:
        is_native = self.server.endswith(".c")
        program = [compiled("wall")] if is_native else [sys.executable, str(SERVERS / self.server)]
        return [*program, str(stage.port), str(stage.connections), str(self.frames), "200"]


@dataclass(frozen=True)
class Relay(Peer):
    """A loop from Redis to the sockets: the cost of the path through Redis."""

    def command(self, stage: Stage) -> list[str]:
        address = stage.redis.url.removeprefix("redis://").removesuffix("/0")
        return [compiled("relay"), str(stage.port), address]


_SOCKETIO_EVENT = (
    '{"method":"emit","event":"bench","data":"{m}","binary":false,"namespace":"/","room":"{g}","skip_sid":null,'
    '"callback":null,"host_id":"publisher"}'
)
#: gunicorn accepts 1,000 connections per worker by default.
_MANY = ("--worker-connections", "20000")
_THREADS = ("--worker-class", "gthread", "--threads", "1200", *_MANY)

FLASK_SOCKETIO = Gunicorn(
    "flask-socketio",
    "Flask-SocketIO (gevent)",
    "flask_socketio_app.py",
    path="/socket.io/?EIO=4&transport=websocket",
    steps=(("0{", "40"), ("40{", '420["join","{g}"]'), ("430[", "")),
    channel="flask-socketio",
    message=_SOCKETIO_EVENT,
    answer=("2", "3"),
    arguments=("--worker-class", "gevent", *_MANY),
)
FLASK_SOCK_TUTORIAL = Gunicorn(
    "flask-sock",
    "Flask-Sock, the tutorial's way",
    "flask_sock_tutorial.py",
    steps=_READY,
    arguments=_THREADS,
)
FLASK_SOCK_SHARED = Gunicorn(
    "flask-sock-shared",
    "Flask-Sock, one shared listener",
    "flask_sock_shared.py",
    steps=_READY,
    arguments=_THREADS,
)
CHANNELS = Channels(
    "channels", "Django Channels (uvicorn)", "channels_app.py", steps=_READY, channel="asgi__group__{g}"
)
WEBSOCKETS = Python("websockets", "websockets + uvloop", "websockets_app.py", steps=_READY)
WS = Node("ws", "node ws + ioredis", "ws.mjs", steps=_READY)
NCHAN = Nchan("nchan", "nginx nchan (C)", "nchan.conf")

PEERS: Sequence[Peer] = (
    FLASK_SOCKETIO,
    FLASK_SOCK_TUTORIAL,
    FLASK_SOCK_SHARED,
    CHANNELS,
    WEBSOCKETS,
    WS,
    NCHAN,
)

#: One system call per frame, in C and in Python; and eight frames per call, in C.
WALL = Wall("wall", "the machine: one send a frame, in C", "wall.c")
WALL_PYTHON = Wall("wall-python", "the machine: one send a frame, in Python", "wall.py")
WALL_JOINED = Wall("wall-joined", "the machine: eight frames a send, in C", "wall.c", frames=8)
#: One system call per event from Redis, in C.
RELAY = Relay("relay", "the machine: Redis to socket, in C", "relay.c", steps=_READY)
