"""
Prepare a make target: ``python3 tools/prepare.py TARGET``. Standard library only.

Each target has a virtual environment, and the tests also need programs (Debian packages) and Pusher's JavaScript
clients. A target that is prepared already costs nothing. Each step shows one line while it runs; an error says what to
do about it.
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
#: The workers that run the oldest supported Celery; the tests that drive them run on .venv.
OLDEST_VENV = ROOT / ".venv-celery54"
#: The servers that the benchmark compares with.
BENCH_VENV = ROOT / ".venv-bench"
LOCK_VENV = ROOT / ".venv-lock"
AUDIT_VENV = ROOT / ".venv-audit"
#: The versions that the demo installs, whatever is released later; see :func:`lock`.
CONSTRAINTS = ROOT / "tools" / "demo-constraints.txt"
#: What the demo needs only on Python 3.10; the lock names it on every Python.
ONLY_ON_OLDEST_PYTHON = ["async-timeout", "exceptiongroup", "tomli"]
#: Arguments of ``pip install`` per target; a later target brings all that an earlier one does.
PACKAGES = {
    "demo": ["--editable", ".[embedded,demo]", "--constraint", str(CONSTRAINTS)],
    "check": ["--editable", ".[all]", "--group", "test", "--group", "lint"],
    "test": ["--editable", ".[all]", "--group", "test", "--group", "lint"],
    "servers": ["--group", "servers"],
    "docs": ["--editable", ".[all]", "--group", "test", "--group", "docs"],
    "fuzz": ["--editable", ".[all]", "--group", "test", "--group", "fuzz"],
    "bench": ["--editable", ".[all]", "--group", "test"],
}
OLDEST = ["--editable", ".[gateway]", "celery==5.4.*", "gevent>=24.10"]
#: Programs that the tests drive: their names, and the Debian package of each.
PROGRAMS = [
    (("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"), "chromium-headless-shell"),
    (("firefox-esr", "firefox"), "firefox-esr"),
    (("redis-server",), "redis-server"),
    (("nginx",), "nginx-light"),
    (("caddy",), "caddy"),
    (("node",), "nodejs"),
    (("npm",), "npm"),
    (("cc", "gcc"), "gcc libc6-dev"),
    # The examples of the docs.
    (("curl",), "curl"),
    (("openssl",), "openssl"),
    (("php",), "php-cli"),
    (("ruby",), "ruby"),
    # Debian's own start script, not its wrapper on the PATH: see tests/lifecycle/rabbitmq.py.
    (("/usr/lib/rabbitmq/bin/rabbitmq-server",), "rabbitmq-server"),
]
#: Folders with a package-lock.json whose packages a target needs.
NODE_PROJECTS = {
    "test": [ROOT / "tests" / "stock_clients", ROOT / "client"],
    "bench": [ROOT / "tests" / "benchmarks" / "servers"],
}
#: The nginx module that the benchmark compares with: unpacked here, because installing it would load it in every nginx.
NCHAN = BENCH_VENV / "nchan"


class CannotPrepareError(Exception):
    """One sentence for the person at the terminal."""


def main() -> int:
    """Prepare the target in ``sys.argv`` and return the exit code."""
    target = sys.argv[1] if len(sys.argv) == 2 else ""
    if target not in (*PACKAGES, "lock", "audit"):
        print(f"usage: {sys.argv[0]} {'|'.join(PACKAGES)}|lock|audit", file=sys.stderr)
        return 2
    try:
        prepare(target)
    except CannotPrepareError as exc:
        print(f"jobpush: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def prepare(target: str) -> None:
    """
    Install what a target needs.

    Raises:
        CannotPrepareError: If a step fails.
    """
    if target == "lock":
        lock()
    elif target == "audit":
        ensure_packages(AUDIT_VENV, "pip-audit", ["pip-audit>=2.7"], target)
    else:
        ensure_packages(VENV, f"what make {target} needs", PACKAGES[target], target)
    if target == "test":
        ensure_packages(OLDEST_VENV, "the oldest Celery", OLDEST, target)
    if target == "bench":
        ensure_packages(BENCH_VENV, "the servers to compare with", ["--group", "bench"], target)
        ensure_nchan()
    if target in ("test", "bench"):
        ensure_programs()
    for project in NODE_PROJECTS.get(target, []):
        if (project / "package-lock.json").is_file():
            ensure_node_packages(project)


def ensure_packages(venv: Path, what: str, packages: list[str], target: str) -> None:
    """Make an environment and install packages into it, unless the last run installed the same."""
    if sys.version_info < (3, 10):  # noqa: UP036 (an older Python may run this file)
        raise CannotPrepareError(f"Python 3.10 or newer is needed, this is {sys.version.split()[0]}; try make PYTHON=…")
    stamp = venv / f".prepared-{target}"
    described = (ROOT / "pyproject.toml").read_bytes() + repr((str(ROOT), packages)).encode()
    if str(CONSTRAINTS) in packages:
        described += CONSTRAINTS.read_bytes()
    wanted = hashlib.sha256(described).hexdigest()
    python = venv / "bin" / "python"
    if python.exists() and stamp.is_file() and stamp.read_text() == wanted:
        return
    if not (python.exists() and (venv / "bin" / "pip").exists()):  # new, interrupted, or its Python was removed
        command = [sys.executable, "-m", "venv", "--clear", str(venv)]
        run(f"making {venv.name}", command, "on Debian: apt-get install python3-venv")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    hint = "is the network up? The lines above are pip's"
    run("updating pip", [*pip, "--upgrade", "pip>=25.1"], hint)  # the first version with --group
    run(f"installing {what}", [*pip, *packages], hint)
    stamp.write_text(wanted)


def lock() -> None:
    """Install the newest versions of all that the demo needs, and write them to the constraints file."""
    shutil.rmtree(LOCK_VENV, ignore_errors=True)
    newest = ["--upgrade", "--upgrade-strategy", "eager", "--editable", ".[embedded,demo]", *ONLY_ON_OLDEST_PYTHON]
    ensure_packages(LOCK_VENV, "the newest versions for the demo", newest, "lock")
    # --all includes setuptools, which a dependency needs; pip itself is left out below.
    command = [str(LOCK_VENV / "bin" / "python"), "-m", "pip", "freeze", "--all", "--exclude-editable"]
    frozen = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
    frozen = "".join(line for line in frozen.splitlines(keepends=True) if not line.startswith("pip=="))
    head = "# The versions that make demo installs. Written by make lock; pip takes from here only what it needs.\n"
    CONSTRAINTS.write_text(head + frozen)
    shutil.rmtree(LOCK_VENV)


def ensure_programs() -> None:
    """Install the Debian packages of missing programs, as root; else raise an error that names the command."""
    packages = missing_packages()
    if not packages:
        return
    command = f"apt-get update && apt-get install --yes --no-install-recommends {' '.join(packages)}"
    if shutil.which("apt-get") and os.geteuid() == 0:
        # Debian starts no service that it installs in runlevel 1; the tests start their own.
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        run(f"installing {', '.join(packages)}", ["sh", "-c", command], f"try by hand: {command}", env=environment)
    if missing := missing_packages():
        raise CannotPrepareError(f"the tests need {', '.join(missing)}; install with: sudo sh -c '{command}'")


def missing_packages() -> list[str]:
    """Return the Debian packages of the programs that are not on the PATH."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin"  # nginx is there, and it is not on users' PATH
    return [package for names, package in PROGRAMS if not any(shutil.which(name, path=path) for name in names)]


def ensure_node_packages(project: Path) -> None:
    """Install exactly what the lock file of a project names, unless the last run did."""
    stamp = project / "node_modules" / ".prepared"
    wanted = hashlib.sha256((project / "package-lock.json").read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    command = ["npm", "ci", "--prefix", str(project), "--no-audit", "--no-fund"]
    what = f"installing the npm packages of {project.relative_to(ROOT)}"
    run(what, command, "is the network up? The lines above are npm's")
    stamp.write_text(wanted)


def ensure_nchan() -> None:
    """Unpack Debian's nchan, which is built for Debian's nginx."""
    if any(NCHAN.rglob("ngx_nchan_module.so")):
        return
    NCHAN.mkdir(parents=True, exist_ok=True)
    fetch = f"cd {shlex.quote(str(NCHAN))} && apt-get download libnginx-mod-nchan && dpkg-deb -x *.deb . && rm *.deb"
    # Root may have to fetch the package lists first; without them apt-get prints an error.
    command = f"apt-get update && {fetch}" if os.geteuid() == 0 else fetch
    run("fetching nchan", ["sh", "-c", command], "the benchmark needs Debian's nginx and libnginx-mod-nchan")


def run(what: str, command: list[str], hint: str, env: dict[str, str] | None = None) -> None:
    """Run a command behind one line that shows progress; print its output only if it fails."""
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
    """Count the seconds on a terminal; elsewhere print one line."""
    started_at = time.monotonic()
    if not sys.stderr.isatty():
        print(f"jobpush: {what} …", file=sys.stderr)
        done.wait()
        return
    for tick in range(sys.maxsize):
        elapsed = time.monotonic() - started_at
        print(f"\r{'⠋⠙⠸⠴⠦⠇'[tick % 6]} {what} … {elapsed:.0f} s ", end="", file=sys.stderr, flush=True)
        if done.wait(0.1):
            break
    print("\r\033[K", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
