"""``tools/prepare.py``: one sentence for what is missing, and no work without need."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A fresh clone, as far as prepare.py reads it."""
    (tmp_path / "tools").mkdir()
    for name in ("prepare.py", "demo-constraints.txt"):
        shutil.copy(ROOT / "tools" / name, tmp_path / "tools")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def prepare(checkout: Path, target: str, *, path: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, checkout / "tools" / "prepare.py", target]
    environment = None if path is None else {"PATH": path}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def write_program(file: Path, script: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o700)


def make_environment(checkout: Path, name: str, script: str) -> None:
    """Make an environment whose Python and pip run a script instead."""
    for program in ("python", "pip"):
        write_program(checkout / name / "bin" / program, script)


def as_prepared(checkout: Path) -> None:
    """Leave the state after a successful run for the demo, with a Python that can install nothing."""
    make_environment(checkout, ".venv", "echo no network; exit 1")
    prepared = "prepare.run = lambda *_, **__: None; prepare.main()"
    script = f"import sys, prepare; sys.argv[1:] = ['demo']; {prepared}"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=checkout / "tools")


def test_prepared_target_is_not_prepared_again(checkout: Path) -> None:
    as_prepared(checkout)

    done = prepare(checkout, "demo")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_changed_target_is_prepared_again_and_a_failure_is_one_sentence(checkout: Path) -> None:
    as_prepared(checkout)
    with (checkout / "pyproject.toml").open("a") as file:
        file.write("# changed\n")

    done = prepare(checkout, "demo")

    assert done.returncode == 1
    alive, of_pip, last = done.stderr.splitlines()
    assert (alive, of_pip) == ("jobpush: updating pip …", "no network")
    assert last.startswith("jobpush: updating pip failed; is the network up? The lines above are pip's")


def test_failed_install_names_the_step_and_the_remedy(checkout: Path) -> None:
    # A Python whose pip can be updated, and can install nothing.
    make_environment(checkout, ".venv", 'case "$*" in *--upgrade*) exit 0 ;; esac; exit 1')

    done = prepare(checkout, "demo")

    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == "jobpush: installing what make demo needs failed; is the network up? The lines above are pip's"


def test_old_python_is_refused_with_the_command_to_run(checkout: Path) -> None:
    script = (
        "import sys; sys.version_info = (3, 9, 0); sys.argv[1:] = ['demo']; import prepare; sys.exit(prepare.main())"
    )

    done = subprocess.run([sys.executable, "-c", script], cwd=checkout / "tools", capture_output=True, text=True)

    assert done.returncode == 1
    assert done.stderr.startswith("jobpush: Python 3.10 or newer is needed, this is ")
    assert done.stderr.endswith("; try make PYTHON=…\n")


def test_missing_programs_are_named_with_their_install_command(checkout: Path) -> None:
    script = "import prepare; prepare.ensure_programs()"

    done = subprocess.run(
        [sys.executable, "-c", script], cwd=checkout / "tools", capture_output=True, text=True, env={"PATH": ""}
    )

    assert done.returncode == 1
    assert "the tests need chromium" in done.stderr
    assert "install with: sudo sh -c 'apt-get update && apt-get install --yes" in done.stderr


def test_unknown_target_lists_the_targets(checkout: Path) -> None:
    done = prepare(checkout, "everything")

    assert done.returncode == 2
    assert done.stderr.endswith("prepare.py demo|check|test|servers|docs|fuzz|bench|lock|audit\n")
