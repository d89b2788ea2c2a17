"""The machine, the programs and the commit of a measurement."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import datetime, timezone
from pathlib import Path

import redis

from .errors import BenchmarkError
from .processes import ROOT, Cores, running_redis


def describe() -> dict[str, str]:
    """Return the facts for the heading of the tables."""
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "node": _version("node", "--version"),
        "nginx": _version("/usr/sbin/nginx", "-v"),
        "redis": _redis_version(),
        "commit": _commit(),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "load": f"{os.getloadavg()[0]:.1f} before it began",
    }


def _processor() -> str:
    match = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1] if match else platform.machine()


def _version(*command: str) -> str:
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return "missing"
    match = re.search(r"\d+(\.\d+)+", result.stdout + result.stderr)
    return match[0] if match else "unknown"


def _redis_version() -> str:
    with running_redis(Cores.split().load) as server, redis.Redis.from_url(server.url) as client:
        return str(client.info("server")["redis_version"])


def _commit() -> str:
    """Return the short hash of HEAD, and whether files have changed since."""
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        is_changed = bool(_git("status", "--porcelain", "--untracked-files=no"))
    except (FileNotFoundError, BenchmarkError):
        return "unknown"
    return commit + (" and changes since" if is_changed else "")


def _git(*arguments: str) -> str:
    result = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    if result.returncode:
        raise BenchmarkError(result.stderr.strip())
    return result.stdout.strip()
