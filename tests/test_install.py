"""An install without the packages of the tests is complete."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from jobpush.processes.child import ChildProcess
from tests.effort import thorough

ROOT = Path(__file__).parent.parent
CONSTRAINTS = ROOT / "tools" / "demo-constraints.txt"


@thorough
def test_demo_runs_on_what_its_extra_installs(tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    uv = [sys.executable, "-m", "uv", "--quiet"]
    subprocess.run([*uv, "venv", "--python", sys.executable, python.parent.parent], check=True)
    pip = [*uv, "pip", "install", "--python", python]
    subprocess.run([*pip, "--editable", f"{ROOT}[embedded,demo]", "--constraint", CONSTRAINTS], check=True)

    command = [str(python.with_name("jobpush")), "demo", "--port", "0", "--no-open"]
    demo = ChildProcess(command, environment={**os.environ, "PYTHONPATH": ""}, is_piped=True)
    line = demo.stdout.readline()
    demo.stop(signal.SIGINT, grace=60)

    assert b"http://" in line
    assert demo.returncode == 0


def test_lock_of_the_demo_has_an_allowed_version_of_every_dependency() -> None:
    lines = [line for line in CONSTRAINTS.read_text().splitlines() if not line.startswith("#")]
    locked = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}

    needed = [one for one in requirements_of(["jobpush[embedded,demo]"]) if one[0] != "jobpush"]

    assert {name for name, _ in needed} <= set(locked)
    assert not [str(requirement) for _, requirement in needed if not fits(requirement, locked)]
    assert all("==" in line and "://" not in line and "--hash" not in line for line in lines)


def fits(requirement: Requirement, locked: dict[str, str]) -> bool:
    """Whether the locked version satisfies the requirement."""
    return requirement.specifier.contains(locked[canonicalize_name(requirement.name)], prereleases=True)


def requirements_of(names: list[str]) -> Iterator[tuple[str, Requirement]]:
    """Yield the requirements of installed packages, and theirs in turn."""
    left, seen = [Requirement(name) for name in names], set()
    while left:
        asked = left.pop()
        if str(asked) in seen:
            continue
        seen.add(str(asked))
        for text in importlib.metadata.requires(asked.name) or ():
            requirement = Requirement(text)
            extras = asked.extras or {""}
            if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
                yield canonicalize_name(requirement.name), requirement
                left.append(requirement)
