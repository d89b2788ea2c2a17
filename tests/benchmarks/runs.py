"""One run of one server: started on its core, loaded from the others, watched, and ended."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import BenchmarkError
from .native import compiled
from .peers import Peer, Stage
from .processes import Cores, Load, Server, free_port, pinned, running_redis

#: Seconds of load before anything is counted.
WARM_UP = 0.5
#: Seconds that what is on its way may take to arrive.
SETTLE_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Crowd:
    """
    Who listens.

    Args:
        connections: How many there are.
        streams: Groups of them that hear the same; ``None``: each has a stream for itself.
        size: Bytes of one event.
    """

    connections: int
    streams: int | None = None
    size: int = 200

    @property
    def groups(self) -> int:
        """Streams there are."""
        return self.streams or self.connections

    @property
    def fanout(self) -> int:
        """Connections that hear one event."""
        return self.connections // self.groups


class Run:
    """A server with its crowd; made by :func:`running`."""

    def __init__(self, peer: Peer, stage: Stage, server: Server, load: Load, crowd: Crowd, credits: tuple[int, int]):
        self.peer = peer
        self.stage = stage
        self.server = server
        self.load = load
        self.crowd = crowd
        self.opened = load.wait_until_ready()
        self._credits = credits
        self._next_seq = 1

    @contextmanager
    def publishing(self, *options: str) -> Iterator[subprocess.Popen[str]]:
        """The publisher, from here to the end of the block; then all must have arrived."""
        crowd = self.crowd
        arguments = [*self.peer.publisher(self.stage, crowd.size), "--streams", str(crowd.groups), "--fanout", str(crowd.fanout)]
        arguments += ["--size", str(crowd.size), "--from", str(self._next_seq), *options]
        process = subprocess.Popen(
            pinned([compiled("publish"), *arguments], self.stage.cores.load),
            stdin=self._credits[0],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        except BaseException:
            process.kill()
            raise
        finally:
            words, _ = process.communicate()
        if process.returncode:
            raise BenchmarkError(f"the publisher has ended with status {process.returncode}")
        last = json.loads(words)["last"]
        self.load.ask(f"until {last}")
        self._next_seq = last + 1

    def measure(self, seconds: float, *options: str) -> dict[str, Any]:
        """Publish with those options, and count for so many seconds, once it has warmed up."""
        total = WARM_UP + seconds + 0.2
        with self.publishing("--seconds", str(total), *options):
            figures = self.watch(seconds)
        self.server.ensure_running()
        return figures

    def watch(self, seconds: float) -> dict[str, Any]:
        """Count for so many seconds what is published anyway, once it has warmed up."""
        time.sleep(WARM_UP)
        self.load.say("reset")
        before, load_before = self.server.cpu_seconds(), self.load.cpu_seconds()
        time.sleep(seconds)
        figures = self.load.ask("report")
        figures["server_cpu"] = self.server.cpu_seconds() - before
        figures["load_cpu"] = self.load.cpu_seconds() - load_before
        return figures

    def saturate(self, seconds: float, window: int) -> dict[str, Any]:
        """As many events as the server can send, so many of them on their way at a time."""
        return self.measure(seconds, "--window", str(window))


@contextmanager
def running(
    peer: Peer, crowd: Crowd, *, window: int = 1, workers: int = 1, options: tuple[str, ...] = ()
) -> Iterator[Run]:
    """
    Start a server and let the crowd join it.

    Args:
        window: Events that are on their way at a time, where the publisher waits for what has arrived.
        workers: Processes of the server.
        options: More options for the load.
    """
    cores = Cores.split()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jobpush-bench-")))
        redis = stack.enter_context(running_redis(cores.load))
        stage = Stage(free_port(), redis, folder, cores, crowd.connections, workers)
        server = stack.enter_context(
            Server(
                peer.command(stage),
                port=stage.port,
                cores=cores.server,
                log=folder / "server.log",
                environment=peer.environment(stage),
            )
        )
        server.wait_until_it_listens()
        reading, writing = os.pipe()
        stack.callback(os.close, reading)
        stack.callback(os.close, writing)
        # A quarter of what may be on its way, so that the publisher is not woken for every frame.
        every = max(crowd.fanout, window * crowd.fanout // 4)
        command = [compiled("load"), "127.0.0.1", str(stage.port), "--connections", str(crowd.connections)]
        command += ["--streams", str(crowd.groups), "--credit-fd", str(writing), "--credit-every", str(every)]
        command += [*peer.client(stage), *options]
        load = stack.enter_context(Load(command, cores=cores.load, log=folder / "load.log", descriptors=[writing]))
        yield Run(peer, stage, server, load, crowd, (reading, writing))
