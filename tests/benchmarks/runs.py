"""One run of a server: start it on its core, load it from the other cores, measure it, and stop it."""

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

#: Seconds of load before a measurement.
WARM_UP = 0.3
#: Seconds of one latency report, and the share of a requested rate that must be reached.
WINDOW = 0.2
STEADY = 0.95
#: Seconds beyond the measurement, so that the publisher does not end first.
_MARGIN = 0.2
#: Seconds for a server to settle after all have connected.
SETTLE = 0.5
#: Connections per load process, and per source address, which has some 28,000 ports.
_CONNECTIONS_OF_A_LOAD = 10_000
_CONNECTIONS_OF_A_SOURCE = 5_000


@dataclass(frozen=True, slots=True)
class Crowd:
    """
    The connections of a run, and the events that they receive.

    Args:
        connections: Number of connections.
        groups: Groups of connections that receive the same events; ``None``: a group for each connection.
        streams: Streams that each connection receives.
        size: Bytes of one event.
    """

    connections: int
    groups: int | None = None
    streams: int = 1
    size: int = 200

    @property
    def group_count(self) -> int:
        """Number of groups."""
        return self.groups or self.connections

    @property
    def fanout(self) -> int:
        """Connections that receive one event."""
        return self.connections // self.group_count


class Run:
    """A running server and its connections; created by :func:`running`."""

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

    # -- connections ---------------------------------------------------------------------------------

    def join(
        self, crowd: Crowd, *, window: int = 1, first: int = 0, count: int | None = None, options: Sequence[str] = ()
    ) -> float:
        """
        Open connections of a crowd, and wait until they are ready.

        Args:
            crowd: The merged crowd; each call may open a part of it.
            window: Events in flight, if the publisher waits for deliveries.
            first: Number of the first connection to open.
            count: Number of connections to open; ``None``: all.
            options: More options for ``native/load.c``.

        Returns:
            Seconds until all were ready.
        """
        count = crowd.connections if count is None else count
        parts = -(-count // _CONNECTIONS_OF_A_LOAD)
        # Deliveries are reported by quarters of the window, so that not every frame wakes the publisher.
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
        """Return the microseconds from ``connect()`` until a connection was ready, by percentile."""
        times: dict[str, float] = self.loads[-1].opened["opening_us"]
        return times

    def memory(self) -> int:
        """Return the bytes that the server uses after it has settled."""
        time.sleep(SETTLE)
        return self.server.memory()

    # -- publishing ----------------------------------------------------------------------------------

    @contextmanager
    def publishing(self, crowd: Crowd, *options: str, is_complete: bool = True) -> Iterator[dict[str, float]]:
        """
        Publish to a crowd until the block and the requested events have ended.

        Yields a dictionary, which contains the report of the publisher after the block.

        Args:
            crowd: The connections that receive the events: all, or the first of them.
            options: Options for ``native/publish.c``.
            is_complete: Whether to wait until all events have arrived.
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
        report: dict[str, float] = {}
        try:
            yield report
        except BaseException:
            process.kill()
            process.communicate()
            raise
        output, _ = process.communicate()
        if process.returncode:
            raise BenchmarkError(f"the publisher has ended with status {process.returncode}")
        report |= json.loads(output)
        last = int(report["last"])
        if is_complete:
            for load in self.loads:
                if load.first < crowd.connections:
                    load.request(f"until {last}")
        self._next_seq = last + 1
        self.server.ensure_running()

    def watch(self, seconds: float, *, may_be_silent: bool = False) -> dict[str, Any]:
        """
        Count deliveries for some seconds after a warm-up, while another party publishes.

        Raises:
            BenchmarkError: If nothing arrived, unless ``may_be_silent``.
        """
        time.sleep(WARM_UP)
        for load in self.loads:
            load.send_command("reset")
        before, load_before = self.server.cpu_seconds(), self._load_cpu()
        time.sleep(seconds)
        figures = _merge([load.request("report") for load in self.loads])
        figures["server_cpu"] = self.server.cpu_seconds() - before
        figures["load_cpu"] = self._load_cpu() - load_before
        if not figures["deliveries"] and not may_be_silent:
            raise BenchmarkError(f"nothing arrived within {seconds} s")
        return figures

    def measure(
        self, crowd: Crowd, seconds: float, *options: str, is_complete: bool = True, may_be_silent: bool = False
    ) -> dict[str, Any]:
        """Publish with these options, and count deliveries; see :meth:`publishing` and :meth:`watch`."""
        total = WARM_UP + seconds + _MARGIN
        with self.publishing(crowd, "--seconds", str(total), *options, is_complete=is_complete):
            return self.watch(seconds, may_be_silent=may_be_silent)

    def latency(self, crowd: Crowd, seconds: float, rate: float) -> list[dict[str, float]] | None:
        """
        Measure the time from the publisher to the socket at a rate of events per second.

        Returns:
            Microseconds by percentile for each :data:`WINDOW`; ``None`` if the rate was not reached.

        Raises:
            BenchmarkError: If nothing arrived for a merged window.
        """
        count = max(1, int(seconds / WINDOW + 0.01))
        total = WARM_UP + count * WINDOW + _MARGIN
        windows: list[dict[str, float]] = []
        with self.publishing(crowd, "--seconds", str(total), "--rate", str(rate), "--steady", "1") as published:
            time.sleep(WARM_UP)
            for _ in range(count):
                for load in self.loads:
                    load.send_command("reset")
                time.sleep(WINDOW)
                windows.append(_merge([load.request("report") for load in self.loads])["latency_us"])
        if not all(window["count"] for window in windows):
            raise BenchmarkError(f"nothing arrived within {WINDOW} s")
        return windows if published["events"] / published["seconds"] > STEADY * rate else None

    def saturate(self, crowd: Crowd, seconds: float, window: int) -> dict[str, Any]:
        """Publish as many events as the server can send, with ``window`` of them in flight."""
        return self.measure(crowd, seconds, "--window", str(window))

    def send_command(self, command: str) -> None:
        """Send a command without a reply to all load processes; see ``native/load.c``."""
        for load in self.loads:
            load.send_command(command)

    def _load_cpu(self) -> float:
        return sum(load.cpu_seconds() for load in self.loads)


def _drain(pipe: int) -> None:
    """Empty a pipe that has no other reader at the moment."""
    os.set_blocking(pipe, False)
    with suppress(BlockingIOError):
        while os.read(pipe, 65_536):
            pass
    os.set_blocking(pipe, True)


def _merge(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """Merge the reports of several load processes; the worst time counts."""
    if len(reports) == 1:
        return reports[0]
    merged = dict(reports[0])
    for name in ("deliveries", "per_second", "bytes", "receives", "others", "skipped", "closed", "cpu"):
        merged[name] = sum(report[name] for report in reports)
    for name in ("latency_us", "age_us"):
        merged[name] = {key: max(report[name][key] for report in reports) for key in merged[name]}
    return merged


@contextmanager
def running(peer: Peer, connections: int, *, users: int | None = None, workers: int = 1) -> Iterator[Run]:
    """
    Start a server with its own Redis.

    Args:
        peer: The server.
        connections: Maximum number of connections.
        users: Number of users, among whom the connections are divided; ``None``: a user for each connection.
        workers: Processes of the server, each with its own core if there are enough.
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
        server.wait_until_listening()
        yield Run(peer, stage, server, stack)
