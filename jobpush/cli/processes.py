"""
Child processes that don't outlive us, whatever happens to us.

Each child leads a session and process group of its own: a Ctrl-C in the terminal reaches only us, and we end
the children in the right order. A guard, one line of ``sh``, waits on a pipe from us; when we are gone
without a word (SIGKILL), it kills the group of the child and removes what we would have removed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

#: $0 is the process group, $@ what is to be removed. A line on the pipe: we did all that ourselves.
#: Not prctl(PR_SET_PDEATHSIG): that ends the child with the thread that started it, needs code run between
#: fork and exec, and leaves grandchildren and folders behind.
_GUARD = 'read -r line || { kill -s KILL -- "-$0"; sleep 0.2; rm -rf -- "$@"; }'


class ChildProcess:
    """
    A program that we started, and everything that it started in turn.

    Example::

        redis = ChildProcess(["redis-server", "--port", "0"], log=Path("redis.log"))
        ...
        redis.stop(signal.SIGTERM, grace=5)
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path | None = None,
        environment: Mapping[str, str] | None = None,
        descriptors: Sequence[int] = (),
        leftovers: Sequence[Path] = (),
    ) -> None:
        """
        Start the program.

        Args:
            command: Program and arguments; no shell is involved.
            log: File for its output, appended to. ``None``: all of it goes to our standard error.
            environment: The child's whole environment. ``None``: ours.
            descriptors: Open files and sockets of ours that the child inherits under the same numbers.
            leftovers: Folders and files that the guard removes if we vanish.
        """
        # Always a copy: another thread may change our own while the child reads it, which then fails as a bad address.
        ours = dict(os.environ)
        output = log.open("ab") if log else None
        try:
            self._process = subprocess.Popen(  # noqa: S603 - a list of ours, and no shell sees it
                command,
                stdin=subprocess.DEVNULL,
                stdout=output or sys.stderr,
                stderr=output,
                env=ours if environment is None else environment,
                pass_fds=descriptors,
                start_new_session=True,
            )
        finally:
            if output:
                output.close()
        self._guard = subprocess.Popen(  # noqa: S603 - as above; the paths are arguments, not part of the script
            ["/bin/sh", "-c", _GUARD, str(self.pid), *map(str, leftovers)],
            stdin=subprocess.PIPE,
            env=ours,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Process id, which is the id of its group too."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the program itself is still there."""
        return self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal; ``None`` while it runs."""
        return self._process.poll()

    def stop(self, *signals: signal.Signals, grace: float) -> None:
        """
        Ask the program to end with each signal in turn, then kill its whole group.

        Args:
            signals: What to send, mildest first, to the program alone: it knows its own children best.
            grace: Seconds to wait after each.
        """
        for number in signals:
            if self._has_ended(number, grace):
                break
        self.kill()

    def kill(self) -> None:
        """Kill the program and its whole group at once; wait until it is gone. Twice does no harm."""
        if self._guard.returncode is not None:
            return  # killed before; the process id may be another's by now
        _signal_group(self.pid, signal.SIGKILL)
        self._process.wait()
        self._guard.communicate(b"\n")

    def _has_ended(self, number: signal.Signals, grace: float) -> bool:
        self._process.send_signal(number)  # does nothing if the program has ended already
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            return False
        return True


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # all of it has ended already
        os.killpg(group, number)
