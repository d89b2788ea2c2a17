"""Child processes: start, output, and the end of their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobpush.processes.child import ChildProcess

ROOT = Path(__file__).parents[2]


@pytest.fixture
def changing_environment() -> Iterator[None]:
    """A thread that keeps changing the environment."""
    is_over = threading.Event()

    def change() -> None:
        while not is_over.is_set():
            os.environ["JOBPUSH_CHANGING"] = "1"
            del os.environ["JOBPUSH_CHANGING"]

    thread = threading.Thread(target=change)
    thread.start()
    yield
    is_over.set()
    thread.join()


def test_child_starts_while_another_thread_changes_the_environment(changing_environment: None) -> None:
    for _ in range(50):
        ChildProcess(["true"]).kill()


def test_output_of_a_piped_child_is_returned() -> None:
    child = ChildProcess(["echo", "hello"], is_piped=True)

    assert child.stdout.read() == b"hello\n"
    assert child.wait(30) == 0
    child.kill()


def test_missing_program_leaves_no_guard() -> None:
    script = (
        "import os\n"
        "from jobpush.processes.child import ChildProcess\n"
        "try: ChildProcess(['/nowhere/program'])\n"
        "except FileNotFoundError: print(os.popen(f'ps -o args= --ppid {os.getpid()}').read())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "read -r group" not in done.stdout


@pytest.mark.parametrize(
    "start",
    [
        "from jobpush.processes.child import ChildProcess\n"
        "child = ChildProcess(['sh', '-c', 'sleep 600 & echo started; wait'], is_piped=True)\n"
        "child.stdout.readline()\n",
        "import subprocess\n"
        "from jobpush.processes.child import Guard\n"
        "guard = Guard()\n"
        "child = subprocess.Popen(['sh', '-c', 'sleep 600 & wait'], start_new_session=True)\n"
        "guard.watch(child.pid)\n",
        "from tests.gateway.conftest import serving\n"
        "started = serving('redis://127.0.0.1:1/0')\n"
        "child = started.__enter__()(redis_patience=1).process\n",
    ],
    ids=["ChildProcess", "Guard", "gateway under test"],
)
def test_child_and_its_children_end_with_a_killed_parent(start: str) -> None:
    script = f"import sys\n{start}print(child.pid, flush=True)\nsys.stdin.read()\n"
    command = [sys.executable, "-c", script]
    parent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert parent.stdout is not None
    with parent:
        group = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)

    ended = 'while ps -o stat= -g "$0" | grep -qv Z; do sleep 0.01; done'
    subprocess.run(["sh", "-c", ended, str(group)], check=True, timeout=30)
