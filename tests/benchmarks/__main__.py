"""Run every benchmark and print its figures, with the machine they were taken on."""

from __future__ import annotations

import os
import platform

from rich.console import Console
from rich.table import Table

from . import update_cost, update_to_pixel

BENCHMARKS = {"what an update costs": update_cost, "the way of one event": update_to_pixel}


def main() -> None:
    console = Console()
    table = Table("what", "figure", title=f"Python {platform.python_version()}, {os.cpu_count()} cores")
    for name, benchmark in BENCHMARKS.items():
        with console.status(f"measuring {name}"):
            for row in benchmark.measure():
                table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    main()
