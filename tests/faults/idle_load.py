"""
A process full of idle pages: ``python -m tests.faults.idle_load PORT FIRST LAST``, one page for each of these users.

Each line on its standard input is answered by one line of JSON: how many pages are open, and what they have received.
"""

from __future__ import annotations

import json
import resource
import sys

from .crowd import Crowd

#: Addresses that one process's pages come from.
_SOURCES = 5


def main(port: int, first: int, last: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    block = first * 50 // last % 50 + 1  # another for each process
    sources = [f"127.0.{block}.{number}" for number in range(1, _SOURCES + 1)]
    crowd = Crowd([port], [f"u{number}" for number in range(first, last)], channels=(), sources=sources)
    for _ in sys.stdin:
        numbers = [len(visitor.numbers) for visitor in crowd.visitors]
        report = {"open": len(crowd.open_ones), "numbers": sum(numbers), "ends": len(crowd.ends())}
        print(json.dumps({**report, "faults": crowd.faults()[:5]}), flush=True)
    crowd.close()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
