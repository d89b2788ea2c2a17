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


def prepare(checkout: Path, target: str, *, path: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, checkout / "tools" / "prepare.py", target]
    environment = None if path is None else {"PATH": path}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def write_program(file: Path, script: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o700)


def make_environment(checkout: Path, name: str, script: str) -> None:
    """An environment whose Python and pip do nothing but that."""
    for program in ("python", "pip"):
        write_program(checkout / name / "bin" / program, script)


def as_prepared(checkout: Path) -> None:
    """Leave what a successful run for the demo leaves, with a Python that can install nothing."""
    make_environment(checkout, ".venv", "echo no network; exit 1")
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


#: Of a Python whose pip can be updated, and can install nothing.
UPDATES_ONLY = 'case "$*" in *--upgrade*) exit 0 ;; esac; exit 1'


def test_who_has_no_redis_is_told_to_install_one_where_the_demo_fails_to_build_its_own(checkout: Path) -> None:
    make_environment(checkout, ".venv", UPDATES_ONLY)

    done = prepare(checkout, "demo", path="")

    assert done.stderr.splitlines()[-1].endswith("install redis-server instead, and try again")


@pytest.mark.parametrize(("target", "environment"), [("audit", ".venv-audit"), ("test", ".venv"), ("demo", ".venv")])
def test_nobody_is_told_to_install_a_redis_where_that_would_not_help(
    checkout: Path, target: str, environment: str
) -> None:
    make_environment(checkout, environment, UPDATES_ONLY)
    write_program(checkout / "bin" / "redis-server", "exit 0")

    done = prepare(checkout, target, path=str(checkout / "bin"))

    last = done.stderr.splitlines()[-1]
    assert (done.returncode, last.endswith("failed; is the network there? The lines above are pip's")) == (1, True)


def test_updating_pip_has_nothing_to_do_with_redis(checkout: Path) -> None:
    make_environment(checkout, ".venv", "exit 1")

    done = prepare(checkout, "demo", path="")

    assert "redis" not in done.stderr


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
