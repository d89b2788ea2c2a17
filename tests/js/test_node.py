"""The JavaScript tests of the client, run by Node's own test runner."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from playwright._impl._driver import compute_driver_executable

HERE = Path(__file__).parent
CLIENT = HERE.parents[1] / "client"
#: Limit for all JavaScript tests, in seconds.
TIMEOUT = 600


def find_node() -> str:
    """Return the path of the system's Node, or else of the one in Playwright's wheel."""
    return shutil.which("node") or compute_driver_executable()[0]


def test_node_runs_the_client_tests() -> None:
    files = sorted(map(str, [*HERE.glob("*.test.mjs"), *CLIENT.glob("test/*.test.mjs")]))

    run = subprocess.run(
        [find_node(), "--test", "--test-reporter=tap", *files],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    passed = re.search(r"^# pass (\d+)$", run.stdout, re.MULTILINE)
    assert passed and int(passed[1]) > len(files)
