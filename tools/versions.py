"""
Run the fast tests on every supported Python of this machine, and on the lowest and the newest versions of all
dependencies: ``make versions``. Standard library only; uv installs the environments.

Prints one line per environment, and exits with 1 if one fails or if fewer than two Pythons were found.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = ROOT / ".venv" / "bin" / "uv"
SUPPORTED = ("3.10", "3.11", "3.12", "3.13", "3.14")


def pythons() -> dict[str, str]:
    """Return the supported Pythons that are installed, by version: those on the PATH, and all of pyenv."""
    folders = [Path(folder) for folder in os.environ["PATH"].split(os.pathsep)]
    # pyenv puts programs for all versions on the PATH, but only the chosen version starts.
    folders += sorted(Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser().glob("versions/*/bin"))
    found = {}
    for version in SUPPORTED:
        for program in (folder / f"python{version}" for folder in folders):
            if program.is_file() and subprocess.run([program, "-c", ""], capture_output=True).returncode == 0:  # noqa: S603
                found[version] = str(program)
                break
    return found


def run_tests(name: str, python: str, *resolution: str) -> bool:
    """Install an environment, run the fast tests in it, and print one line."""
    venv = ROOT / f".venv-{name}"
    environment = {**os.environ, "VIRTUAL_ENV": str(venv), "UV_PYTHON_DOWNLOADS": "never"}
    install = [UV, "pip", "install", "--quiet"]
    for command in (
        [UV, "venv", "--quiet", "--clear", "--python", python, str(venv)],
        [*install, *resolution, "--editable", ".[all]"],
        [*install, "--group", "test"],  # keeps the versions that are installed already
    ):
        subprocess.run(command, check=True, cwd=ROOT, env=environment)  # noqa: S603
    fast = os.environ["FAST_TESTS"].split()
    done = subprocess.run([venv / "bin" / "python", "-m", "pytest", "-q", "-n", "2", *fast], cwd=ROOT)  # noqa: S603
    print(f"{name}: {'passed' if done.returncode == 0 else 'FAILED'} ({python})", flush=True)
    shutil.rmtree(venv)
    return done.returncode == 0


def main() -> int:
    """Run all environments and return the exit code."""
    found = pythons()
    print(f"Pythons on this machine: {', '.join(found)}", flush=True)
    results = [run_tests(f"python{version}", path) for version, path in found.items()]
    oldest = next(iter(found.values()))
    results.append(run_tests("lowest-versions", found.get("3.11", oldest), "--resolution", "lowest-direct"))
    results.append(run_tests("newest-versions", oldest, "--upgrade"))
    return 0 if all(results) and "3.11" in found and len(found) > 1 else 1


if __name__ == "__main__":
    sys.exit(main())
