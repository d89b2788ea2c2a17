"""One run of one server: started on its core, loaded from the others, watched, and ended."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobpush.processes.embedded import EmbeddedRedis
from jobpush.processes.ports import free_port

from .errors import BenchmarkError
from .native import compiled
from .peers import Peer, Stage
from .processes import Cores, Load, Server, pinned, running_redis

#: Seconds of load before anything is counted.
WARM_UP = 0.3
#: Seconds of which latencies are told; and the part of a rate below which it was another one.
WINDOW = 0.2
STEADY = 0.95
#: Seconds beyond those that are counted, so that the publisher does not end before.
_MARGIN = 0.2
#: Seconds that a server may take to come to rest once all have connected.
SETTLE = 0.5
#: Connections of one process of the load; and of one source address, which has some 28,000 ports.
_CONNECTIONS_OF_A_LOAD = 10_000
_CONNECTIONS_OF_A_SOURCE = 5_000


@dataclass(frozen=True, slots=True)
class Crowd:
    """
    Who listens.

    Args:
        connections: How many there are.
        groups: Groups of them that hear the same; ``None``: each hears something of its own.
        streams: Streams that each connection hears.
        size: Bytes of one event.
    """

    connections: int
    groups: int | None = None
    streams: int = 1
    size: int = 200

    @property
    def group_count(self) -> int:
        """Groups there are."""
        return self.groups or self.connections

    @property
    def fanout(self) -> int:
        """Connections that receive one event."""
        return self.connections // self.group_count


class Run:
    """A server and whoever has joined it; made by :func:`running`."""

    def __init__(self, peer: Peer, stage: Stage, server: Server, stack: ExitStack) -> None:
        self.peer = peer
        self.stage = stage
        self.server = server
        self.loads: list[Load] = []
        self._stack = stack
        self._credits = os.pipe()
        self._next_seq = 1
        for descriptor in self._credits:
            stack.callback(os.close, descriptor)

    # -- who listens ---------------------------------------------------------------------------------

    def join(
        self, crowd: Crowd, *, window: int = 1, first: int = 0, count: int | None = None, options: Sequence[str] = ()
    ) -> float:
        """
        Let connections of a crowd join, and wait until all are there.

        Args:
            crowd: The whole of it, of which a part may join now and another later.
            window: Events that are on their way at a time, where the publisher waits for what has arrived.
            first: The first connection that joins now.
            count: How many do; ``None``: all.
            options: More options for ``native/load.c``.

        Returns:
            Seconds that it took.
        """
        count = crowd.connections if count is None else count
        parts = -(-count // _CONNECTIONS_OF_A_LOAD)
        # A quarter of what may be on its way, so that the publisher is not woken for every frame.
        credit = max(crowd.fanout, window * crowd.fanout // 4)
        loads = []
        for part in range(parts):
            begin, end = count * part // parts, count * (part + 1) // parts
            command = [compiled("load"), "127.0.0.1", str(self.stage.port), "--connections", str(end - begin)]
            command += ["--first", str(first + begin), "--groups", str(crowd.group_count)]
            command += ["--per-connection", str(crowd.streams), "--inflight", str(64 // parts)]
            command += ["--sources", str(-(-crowd.connections // _CONNECTIONS_OF_A_SOURCE))]
            command += ["--credit-fd", str(self._credits[1]), "--credit-every", str(max(1, credit // parts))]
            command += [*self.peer.client(self.stage), *options]
            log = self.stage.folder / f"load-{len(self.loads) + part}.log"
            loads.append(Load(command, cores=self.stage.cores.load, log=log, descriptors=self._credits[1:]))
            self._stack.enter_context(loads[-1])
            loads[-1].first = first + begin
        self.loads += loads
        return max(float(load.wait_until_ready()["seconds"]) for load in loads)

    def opening_times(self) -> dict[str, float]:
        """Microseconds from ``connect()`` until each connection was ready, by percentile."""
        times: dict[str, float] = self.loads[-1].opened["opening_us"]
        return times

    def memory(self) -> int:
        """Bytes that the server takes once it has come to rest."""
        time.sleep(SETTLE)
        return self.server.memory()

    # -- what is published ---------------------------------------------------------------------------

    @contextmanager
    def publishing(self, crowd: Crowd, *options: str, is_complete: bool = True) -> Iterator[dict[str, float]]:
        """
        Publish to a crowd until the end of the block and of what was asked for.

        Gives what the publisher says of it, which is there after the block.

        Args:
            crowd: Who hears it: those who have joined, or those who joined first.
            options: Options for ``native/publish.c``.
            is_complete: Whether all of it has to arrive then.
        """
        arguments = [*self.peer.publisher(self.stage, crowd.size), "--per-group", str(crowd.streams)]
        arguments += ["--streams", str(crowd.group_count * crowd.streams), "--fanout", str(crowd.fanout)]
        arguments += ["--size", str(crowd.size), "--from", str(self._next_seq), *options]
        _drain(self._credits[0])
        process = subprocess.Popen(
            pinned([compiled("publish"), *arguments], self.stage.cores.load),
            stdin=self._credits[0],
            stdout=subprocess.PIPE,
            text=True,
        )
        told: dict[str, float] = {}
        try:
            yield told
        except BaseException:
            process.kill()
            process.communicate()
            raise
        words, _ = process.communicate()
        if process.returncode:
            raise BenchmarkError(f"the publisher has ended with status {process.returncode}")
        told |= json.loads(words)
        last = int(told["last"])
        if is_complete:
            for load in self.loads:
                if load.first < crowd.connections:
                    load.ask(f"until {last}")
        self._next_seq = last + 1
        self.server.ensure_running()

    def watch(self, seconds: float, *, may_be_silent: bool = False) -> dict[str, Any]:
        """
        Count for so many seconds what is published anyway, once it has warmed up.

        Raises:
            BenchmarkError: If nothing came, unless it ``may_be_silent``.
        """
        time.sleep(WARM_UP)
        for load in self.loads:
            load.say("reset")
        before, load_before = self.server.cpu_seconds(), self._load_cpu()
        time.sleep(seconds)
        figures = _together([load.ask("report") for load in self.loads])
        figures["server_cpu"] = self.server.cpu_seconds() - before
        figures["load_cpu"] = self._load_cpu() - load_before
        if not figures["deliveries"] and not may_be_silent:
            raise BenchmarkError(f"nothing arrived within {seconds} s")
        return figures

    def measure(
        self, crowd: Crowd, seconds: float, *options: str, is_complete: bool = True, may_be_silent: bool = False
    ) -> dict[str, Any]:
        """Publish with those options, and count for so many seconds; see :meth:`publishing` and :meth:`watch`."""
        total = WARM_UP + seconds + _MARGIN
        with self.publishing(crowd, "--seconds", str(total), *options, is_complete=is_complete):
            return self.watch(seconds, may_be_silent=may_be_silent)

    def latency(self, crowd: Crowd, seconds: float, rate: float) -> list[dict[str, float]] | None:
        """
        Microseconds from the publisher to the socket at so many events a second, by percentile: of each :data:`WINDOW`.

        Returns:
            ``None`` if the rate could not be had.

        Raises:
            BenchmarkError: If nothing came for a whole window.
        """
        count = max(1, int(seconds / WINDOW + 0.01))
        total = WARM_UP + count * WINDOW + _MARGIN
        windows: list[dict[str, float]] = []
        with self.publishing(crowd, "--seconds", str(total), "--rate", str(rate), "--steady", "1") as published:
            time.sleep(WARM_UP)
            for _ in range(count):
                for load in self.loads:
                    load.say("reset")
                time.sleep(WINDOW)
                windows.append(_together([load.ask("report") for load in self.loads])["latency_us"])
        if not all(window["count"] for window in windows):
            raise BenchmarkError(f"nothing arrived within {WINDOW} s")
        return windows if published["events"] / published["seconds"] > STEADY * rate else None

    def saturate(self, crowd: Crowd, seconds: float, window: int) -> dict[str, Any]:
        """As many events as the server can send, so many of them on their way at a time."""
        return self.measure(crowd, seconds, "--window", str(window))

    def say(self, command: str) -> None:
        """A command of ``native/load.c`` that has no answer, to all."""
        for load in self.loads:
            load.say(command)

    def _load_cpu(self) -> float:
        return sum(load.cpu_seconds() for load in self.loads)


def _drain(pipe: int) -> None:
    """Read what is in a pipe, which has no other reader just now."""
    os.set_blocking(pipe, False)
    with suppress(BlockingIOError):
        while os.read(pipe, 65_536):
            pass
    os.set_blocking(pipe, True)


def _together(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """The report of several loads as one; of times the worst counts."""
    if len(reports) == 1:
        return reports[0]
    whole = dict(reports[0])
    for name in ("deliveries", "per_second", "bytes", "receives", "others", "skipped", "closed", "cpu"):
        whole[name] = sum(report[name] for report in reports)
    for name in ("latency_us", "age_us"):
        whole[name] = {key: max(report[name][key] for report in reports) for key in whole[name]}
    return whole


@contextmanager
def running(peer: Peer, connections: int, *, users: int | None = None, workers: int = 1) -> Iterator[Run]:
    """
    Start a server, on a Redis of its own.

    Args:
        peer: Which one.
        connections: How many will join at most.
        users: Whose they are in turn; ``None``: each is another's.
        workers: Processes of the server, a core for each where there are so many.
    """
    cores = Cores.split(workers)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jobpush-bench-")))
        redis: EmbeddedRedis = stack.enter_context(running_redis(cores.load))
        stage = Stage(free_port(), redis, folder, cores, users or connections, workers, connections)
        server = Server(
            peer.command(stage),
            port=stage.port,
            cores=cores.server,
            log=folder / "server.log",
            environment=peer.environment(stage),
        )
        stack.enter_context(server)
        server.wait_until_it_listens()
        yield Run(peer, stage, server, stack)
