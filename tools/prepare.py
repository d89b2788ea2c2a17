"""
Prepare .venv for a make target: ``python3 tools/prepare.py demo|test|lint``. Standard library only.

Does nothing when the last run installed the same things. Says what it does in one line, and what to do
about it when it can't.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
#: What pip is asked for, by target; each brings the one before it.
EXTRAS = {
    "demo": ["--editable", ".[demo]"],
    "test": ["--editable", ".[all]", "--group", "test"],
    "lint": ["--editable", ".[all]", "--group", "test", "--group", "lint"],
}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class CannotPrepareError(Exception):
    """One sentence for the person who typed make."""


def main() -> int:
    """Prepare what the target in ``sys.argv`` needs."""
    target = sys.argv[1] if len(sys.argv) == 2 else ""
    if target not in EXTRAS:
        print(f"usage: {sys.argv[0]} {'|'.join(EXTRAS)}", file=sys.stderr)
        return 2
    try:
        ensure_packages(target)
        if target == "test":
            ensure_browser()
    except CannotPrepareError as exc:
        print(f"jobpush: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def ensure_packages(target: str) -> None:
    """Make .venv and install what the target needs, unless the last run did."""
    if sys.version_info < (3, 10):  # noqa: UP036 (this very file may meet an older one)
        raise CannotPrepareError(f"Python 3.10 or newer is needed, this is {sys.version.split()[0]}; try make PYTHON=…")
    stamp = VENV / f".prepared-{target}"
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + str(ROOT).encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    if not PYTHON.exists():
        run("making .venv", [sys.executable, "-m", "venv", str(VENV)], "on Debian: apt-get install python3-venv")
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    hint = "is the network there? The lines above are pip's"
    run("updating pip", [*pip, "--upgrade", "pip>=25.1"], hint)  # the first that knows --group
    run(f"installing what make {target} needs", [*pip, *EXTRAS[target]], hint)
    stamp.write_text(wanted)


def ensure_browser() -> None:
    """Find Chromium for the browser tests, or install Debian's where that is allowed."""
    if any(shutil.which(name) for name in BROWSERS):
        return
    command = "apt-get update && apt-get install --yes --no-install-recommends chromium"
    if shutil.which("apt-get") and os.geteuid() == 0:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run("installing Chromium", ["sh", "-c", f"{command}"], f"try by hand: {command}", env=environment)
    if not any(shutil.which(name) for name in BROWSERS):
        raise CannotPrepareError(f"the browser tests need Chromium; install it with: sudo sh -c '{command}'")


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
