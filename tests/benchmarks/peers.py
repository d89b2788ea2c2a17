"""
Whom we are measured against, and ourselves: how each is started, joined and published to.

The servers themselves stand in ``servers/``, each as its own documentation has it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jobpush.embedded import EmbeddedRedis

from .processes import ROOT, Cores

SERVERS = Path(__file__).parent / "servers"
#: Environment of the peers' own packages: ours don't need them.
VENV = ROOT / ".venv-bench" / "bin"


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a server is to run."""

    port: int
    redis: EmbeddedRedis
    folder: Path
    cores: Cores
    workers: int = 1


@dataclass(frozen=True)
class Peer:
    """
    A server that is measured.

    Args:
        key: Its name on the command line.
        title: Its name in the tables.
        server: Its file in ``servers/``.
        path: What a client asks for; templates as in ``native/load.c``.
        channel: Redis channel on which it hears what is published to stream ``{s}``.
        message: What is published there; ``{m}`` is the payload with its mark.
    """

    key: str
    title: str
    server: str
    path: str = "/{s}"
    steps: Sequence[tuple[str, str]] = ()
    answer: tuple[str, str] | None = None
    channel: str = "{s}"
    message: str = "{m}"

    def command(self, stage: Stage) -> list[str]:
        """Program and arguments."""
        raise NotImplementedError

    def environment(self, stage: Stage) -> Mapping[str, str]:
        """Beside our own."""
        return {"REDIS_URL": stage.redis.url, "PORT": str(stage.port)}

    def client(self, stage: Stage, connections: int) -> list[str]:
        """How the load joins; see ``native/load.c``."""
        arguments = ["--path", self.path]
        for expected, reply in self.steps:
            arguments += ["--step", expected, reply]
        if self.answer is not None:
            arguments += ["--answer", *self.answer]
        return arguments

    def publisher(self, stage: Stage) -> list[str]:
        """How events get in; see ``native/publish.c``."""
        address = stage.redis.url.removeprefix("redis://").removesuffix("/0")
        return ["--redis", address, "--channel", self.channel, "--message", self.message]


@dataclass(frozen=True)
class JobPush(Peer):
    """Ours. What is published is what the store's scripts publish, so that the server is measured and not they."""

    settings: Mapping[str, str] = field(default_factory=dict)

    def command(self, stage: Stage) -> list[str]:
        command = [sys.executable, "-m", "gunicorn", "--config", "python:jobpush.gunicorn_conf"]
        command += ["--bind", f"127.0.0.1:{stage.port}", "--workers", str(stage.workers), "--log-level", "warning"]
        return [*command, "tests.benchmarks.servers.jobpush_site:create_app()"]

    def environment(self, stage: Stage) -> Mapping[str, str]:
        credentials = {"JOBPUSH_KEY": "bench", "JOBPUSH_SECRET": "bench"}
        return {"JOBPUSH_REDIS_URL": stage.redis.url, **credentials, **self.settings}

    def client(self, stage: Stage, connections: int) -> list[str]:
        from .servers.jobpush_site import session_cookies

        cookies = stage.folder / "cookies"
        if not cookies.exists():
            cookies.write_text("\n".join(session_cookies(connections)))
        return [*super().client(stage, connections), "--values", str(cookies), "--header", "Cookie: {v}"]


_SUBSCRIBE = '{"event":"pusher:subscribe","data":{"channel":"news-{s}"}}'
_EVENT = '{d} - 0 1 -\n"event":"bench","data":"{m}"'
_SNAPSHOT = '{d} task-{s} {q} 0 -\n"event":"jobpush:task","data":"{m}"'

#: A stock client of a signed-in page that hears a public channel.
OURS = JobPush(
    "ours",
    "jobpush",
    "jobpush_site.py",
    path="/app/bench?protocol=7",
    steps=(("pusher:connection_established", _SUBSCRIBE), ("pusher_internal:subscription_succeeded", "")),
    channel="jobpush:{channel:news-{s}}",
    message=_EVENT,
)
#: Our own client: it hears its user's channel without having asked.
OURS_PER_USER = JobPush(
    "ours",
    "jobpush",
    "jobpush_site.py",
    path="/app/bench?protocol=7&client=jobpush",
    steps=(("pusher_internal:subscription_succeeded", ""),),
    channel="jobpush:{user:{s}}",
    message=_EVENT,
)
#: Our own client on a page that also hears a public channel: two channels on one socket.
OURS_TWO_CHANNELS = JobPush(
    "ours-two-channels",
    "jobpush, signed-in page with a second channel",
    "jobpush_site.py",
    path="/app/bench?protocol=7&client=jobpush",
    steps=(
        ("pusher_internal:subscription_succeeded", _SUBSCRIBE),
        ("pusher_internal:subscription_succeeded", ""),
    ),
    channel="jobpush:{channel:news-{s}}",
    message=_EVENT,
)
