"""
A process with many idle pages, one per user: ``python -m tests.faults.idle_load PORT FIRST LAST``.

For each line on standard input, it prints a line of JSON with the number of open pages and of received messages.
"""

from __future__ import annotations

import json
import resource
import sys

from .crowd import Crowd

#: Source addresses of the pages of one process.
_SOURCES = 5


def main(port: int, first: int, last: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    block = first * 50 // last % 50 + 1  # different for each process
    sources = [f"127.0.{block}.{number}" for number in range(1, _SOURCES + 1)]
    crowd = Crowd([port], [f"u{number}" for number in range(first, last)], channels=(), sources=sources)
    for _ in sys.stdin:
        numbers = [len(visitor.numbers) for visitor in crowd.visitors]
        report = {"open": len(crowd.connected), "numbers": sum(numbers), "ends": len(crowd.ends())}
        print(json.dumps({**report, "faults": crowd.faults()[:5]}), flush=True)
    crowd.close()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
