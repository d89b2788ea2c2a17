"""
A real worker with the tasks of these tests: ``run_worker.py SETTINGS [WORKER OPTION…]``, settings as JSON.

``FAULTS_CLOCK`` names a file of eight bytes with the offset of this worker's clock in seconds. Changing the file while
the worker runs simulates a change of the machine's clock. The clock is installed before anything else is imported.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import sys
import time


def follow_clock(path: str) -> None:
    """Shift ``time.time`` by the offset in a file, in this process and its children."""
    real_time = time.time
    with open(path, "r+b") as file:
        offset = mmap.mmap(file.fileno(), 8)

    def shifted() -> float:
        seconds: float = struct.unpack_from("d", offset)[0]
        return real_time() + seconds

    time.time = shifted


def main() -> None:
    if "FAULTS_CLOCK" in os.environ:
        follow_clock(os.environ["FAULTS_CLOCK"])
    from tests.faults.tasks import make_app

    app, _ = make_app(**json.loads(sys.argv[1]))
    app.worker_main(["worker", "--loglevel=INFO", "--without-gossip", "--without-mingle", *sys.argv[2:]])


if __name__ == "__main__":
    main()
