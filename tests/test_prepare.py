"""``tools/prepare.py``, what a newcomer meets first: a sentence for what is missing, and no work without need."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What a fresh clone has of what it needs."""
    (tmp_path / "tools").mkdir()
    for name in ("prepare.py", "demo-constraints.txt"):
        shutil.copy(ROOT / "tools" / name, tmp_path / "tools")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def prepare(checkout: Path, target: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, checkout / "tools" / "prepare.py", target], capture_output=True, text=True)


def as_prepared(checkout: Path) -> None:
    """Leave what a successful run for the demo leaves, with a Python that can install nothing."""
    (checkout / ".venv" / "bin").mkdir(parents=True)
    for name in ("python", "pip"):
        program = checkout / ".venv" / "bin" / name
        program.write_text("#!/bin/sh\necho no network; exit 1\n")
        program.chmod(0o700)
    prepared = "prepare.run = lambda *_, **__: None; prepare.main()"
    script = f"import sys, prepare; sys.argv[1:] = ['demo']; {prepared}"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=checkout / "tools")


def test_what_was_prepared_is_not_prepared_again(checkout: Path) -> None:
    as_prepared(checkout)

    done = prepare(checkout, "demo")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_has_changed_is_prepared_anew_and_what_fails_says_so_in_a_sentence(checkout: Path) -> None:
    as_prepared(checkout)
    with (checkout / "pyproject.toml").open("a") as file:
        file.write("# changed\n")

    done = prepare(checkout, "demo")

    assert done.returncode == 1
    alive, of_pip, last = done.stderr.splitlines()
    assert (alive, of_pip) == ("jobpush: updating pip …", "no network")
    assert last.startswith("jobpush: updating pip failed; is the network there? The lines above are pip's")


def test_python_that_is_too_old_is_told_with_what_to_type(checkout: Path) -> None:
    script = (
        "import sys; sys.version_info = (3, 9, 0); sys.argv[1:] = ['demo']; import prepare; sys.exit(prepare.main())"
    )

    done = subprocess.run([sys.executable, "-c", script], cwd=checkout / "tools", capture_output=True, text=True)

    assert done.returncode == 1
    assert done.stderr.startswith("jobpush: Python 3.10 or newer is needed, this is ")
    assert done.stderr.endswith("; try make PYTHON=…\n")


def test_programs_that_are_missing_are_named_with_the_command_that_installs_them(checkout: Path) -> None:
    script = "import prepare; prepare.ensure_programs()"

    done = subprocess.run(
        [sys.executable, "-c", script], cwd=checkout / "tools", capture_output=True, text=True, env={"PATH": ""}
    )

    assert done.returncode == 1
    assert "the tests need chromium" in done.stderr
    assert "install with: sudo sh -c 'apt-get update && apt-get install --yes" in done.stderr


def test_unknown_target_says_which_there_are(checkout: Path) -> None:
    done = prepare(checkout, "everything")

    assert done.returncode == 2
    assert done.stderr.endswith("prepare.py demo|test|fuzz|lint|bench|lock|audit\n")
