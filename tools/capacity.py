"""
Estimate what a number of connections needs: ``python3 tools/capacity.py --connections 1000000``.

Every cost is a median of the benchmark (``docs/performance.json``, which ``make bench`` writes), so a machine that was
measured gives its own answer. ``--write`` puts the table of three sizes into ``docs/scale.md``. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from statistics import median

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = DOCS / "scale.md"
BEGIN, END = "<!-- made by tools/capacity.py: begin -->\n", "<!-- made by tools/capacity.py: end -->\n"
#: The sizes of the table in the documentation.
SIZES = (10_000, 1_000_000, 10_000_000)
#: Share of a core, or of a Redis process, that the plan uses; the rest is for peaks.
UTILISATION = 0.5


@dataclass(frozen=True)
class Costs:
    """What the benchmark measured. CPU in seconds, memory and network in bytes."""

    #: CPU of a gateway for an event of one user, sent to one connection, with 18,000 connections on the process.
    delivery_cpu: float
    #: Connections that one process accepts and signs in per second.
    connects: float
    connection_memory: float
    event_bytes: float
    #: CPU of Redis for an event of 2,000 users.
    event_cpu: float
    #: A running task in Redis after 20 events, history included.
    task_memory: float

    @classmethod
    def measured(cls, samples: dict[str, dict[str, list[dict[str, float]]]]) -> Costs:
        """Return the medians of ``samples`` in ``performance.json``."""

        def of(scenario: str, subject: str, figure: str) -> float:
            return median(sample[figure] for sample in samples[scenario][subject])

        # The task of that scenario moves ten times a second.
        return cls(
            delivery_cpu=of("growth", "ours-many", "event_cpu") / 1e6,
            connects=of("growth", "ours-many", "connects"),
            connection_memory=of("growth", "ours-many", "memory") * 1024,
            event_bytes=of("polling", "ours", "bytes") / 10,
            event_cpu=of("redis", "ours", "cpu_many") / 1e6,
            task_memory=of("redis", "ours", "bytes_many"),
        )


@dataclass(frozen=True)
class Load:
    """What the users do."""

    connections: int
    #: Share of the users with a task that runs.
    running: float = 0.1
    #: Events per second of such a task.
    rate: float = 2.0
    #: Connections of a user: tabs and devices.
    tabs: float = 1.2
    #: Tasks of a user that Redis keeps.
    tasks: float = 3.0
    #: Seconds in which all connections must be back after every gateway was restarted.
    readmission: float = 60.0
    #: Connections that one gateway process may hold.
    per_process: int = 18_000


@dataclass(frozen=True)
class Needs:
    """What the load needs. A gateway process uses one core, a shard is one Redis primary."""

    events: float
    gateways: int
    shards: int
    gateway_memory: float
    redis_memory: float
    network: float
    bottleneck: str


def plan(load: Load, costs: Costs) -> Needs:
    """Return what ``load`` needs, and the resource that decides how many gateways there are."""
    users = load.connections / load.tabs
    events = users * load.running * load.rate
    deliveries = events * load.tabs
    reasons = {
        "CPU of the gateways for events": deliveries * costs.delivery_cpu / UTILISATION,
        "connections back in time after a restart": load.connections / (costs.connects * load.readmission),
        "connections per process": load.connections / load.per_process,
    }
    shards = max(1, math.ceil(events * costs.event_cpu / UTILISATION))
    gateways = max(2, math.ceil(max(reasons.values())))  # two, so that one may fail
    return Needs(
        events=events,
        gateways=gateways,
        shards=shards,
        gateway_memory=load.connections * costs.connection_memory,
        redis_memory=users * load.tasks * costs.task_memory,
        network=deliveries * costs.event_bytes,
        bottleneck=max(reasons, key=lambda reason: reasons[reason]) if shards == 1 else "CPU of one Redis primary",
    )


def table(needs: dict[int, Needs]) -> str:
    """Return the needs of each number of connections as a Markdown table, one column each."""
    rows = [
        ("events/s", [f"{one.events:,.0f}" for one in needs.values()]),
        ("gateway processes, one core each", [f"{one.gateways:,}" for one in needs.values()]),
        ("Redis primaries", [f"{one.shards:,}" for one in needs.values()]),
        ("memory of the connections", [size(one.gateway_memory) for one in needs.values()]),
        ("memory of Redis, all primaries", [size(one.redis_memory) for one in needs.values()]),
        ("network to the browsers", [f"{size(one.network)}/s" for one in needs.values()]),
        ("first bottleneck", [one.bottleneck for one in needs.values()]),
    ]
    heading = ["", *(f"{connections:,} connections" for connections in needs)]
    lines = [heading, ["---", *["--:"] * len(needs)], *([name, *values] for name, values in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def size(count: float) -> str:
    """Return a number of bytes with its decimal unit."""
    for unit in ("KB", "MB", "GB"):
        count /= 1000
        if count < 1000:
            return f"{count:,.1f} {unit}"
    return f"{count / 1000:,.1f} TB"


def measured_costs() -> Costs:
    """Return the costs that ``docs/performance.json`` has."""
    return Costs.measured(json.loads((DOCS / "performance.json").read_text())["samples"])


def page() -> str:
    """Return ``docs/scale.md`` with its table of today's costs."""
    costs = measured_costs()
    before, _, rest = PAGE.read_text().partition(BEGIN)
    body = table({count: plan(Load(count), costs) for count in SIZES})
    return before + BEGIN + body + END + rest.partition(END)[2]


def main() -> None:
    """Print the plan for the load on the command line."""
    parser = argparse.ArgumentParser(description="Estimate the gateways, the Redis primaries, memory and network.")
    default = Load(0)
    add = parser.add_argument
    add("--connections", type=int, default=10_000, help="open connections (%(default)s)")
    add("--running", type=float, default=default.running, help="share of users with a running task (%(default)s)")
    add("--rate", type=float, default=default.rate, help="events per second of a running task (%(default)s)")
    add("--tabs", type=float, default=default.tabs, help="connections per user (%(default)s)")
    add("--tasks", type=float, default=default.tasks, help="tasks per user that Redis keeps (%(default)s)")
    add("--readmission", type=float, default=default.readmission, help="seconds until all are back (%(default)s)")
    add("--per-process", type=int, default=default.per_process, help="connections per process (%(default)s)")
    add("--write", action="store_true", help="write the table of docs/scale.md")
    options = vars(parser.parse_args())
    if options.pop("write"):
        PAGE.write_text(page())
        return
    load = Load(**options)
    print(table({load.connections: plan(load, measured_costs())}), end="")


if __name__ == "__main__":
    main()
