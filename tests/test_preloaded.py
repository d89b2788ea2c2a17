"""Programs of the fork server run as those of a new interpreter do."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.preloaded import PreloadedProcess

PROGRAM = """\
import atexit, os, socket, sys, threading
if __name__ == "__main__":
    print(sys.argv[1:], os.environ["GIVEN"], "HOME" in os.environ, os.getpgid(0) == os.getpid(), flush=True)
    print("an error", file=sys.stderr)
    atexit.register(print, "the end")
    socket.socket(fileno=int(sys.argv[1])).close()
    sys.exit(3)
"""


def test_program_gets_its_arguments_environment_and_descriptors(tmp_path: Path) -> None:
    script, log = tmp_path / "program.py", tmp_path / "log"
    script.write_text(PROGRAM)
    with socket.socket() as passed:
        number = passed.fileno()
        command = [sys.executable, str(script), str(number)]
        child = PreloadedProcess(command, log=log, environment={"GIVEN": "a value"}, descriptors=[number])
        status = child.wait(60)
    child.kill()

    assert status == child.returncode == 3
    assert sorted(log.read_text().splitlines()) == sorted([f"['{number}'] a value False True", "an error", "the end"])


def test_program_can_be_waited_for_and_killed(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text("import signal\nsignal.pause()")
    child = PreloadedProcess(
        [sys.executable, "-m", "waits"], environment={**os.environ, "PYTHONPATH": str(tmp_path)}, log=tmp_path / "log"
    )

    assert child.is_running
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0)
    child.kill()
    assert child.returncode == -signal.SIGKILL
    assert (tmp_path / "log").read_text() == ""
