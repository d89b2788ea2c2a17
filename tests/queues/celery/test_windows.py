"""Publishing and solo workers use no API that Windows lacks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from jobpush.testing import PATIENCE


def test_publisher_and_solo_worker_run_without_fork_poll_and_posix_signals(redis_url: str) -> None:
    script = Path(__file__).with_name("windows_like.py")

    result = subprocess.run(
        [sys.executable, str(script), redis_url], capture_output=True, text=True, timeout=4 * PATIENCE, check=False
    )

    assert result.stdout.splitlines()[-1:] == ["SUCCESS 3"], result.stderr
    assert "Traceback" not in result.stderr
