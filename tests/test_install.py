"""What a user installs is enough; the packages of the tests would hide what is missing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_demo_runs_on_what_its_extra_installs(tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", python.parent.parent], check=True)
    extras = "demo" if shutil.which("redis-server") else "embedded,demo"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--editable", f"{ROOT}[{extras}]"], check=True)

    command = [python.with_name("jobpush"), "demo", "--port", "0", "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": ""}) as demo:
        assert demo.stdout is not None
        line = demo.stdout.readline()
        demo.send_signal(signal.SIGINT)

    assert "http://" in line
    assert demo.returncode == 0
