"""
Child processes that end with their parent, even if it is killed.

Each child leads its own session and process group, so that Ctrl-C in the terminal reaches only the parent, which
stops its children in the right order. A guard, one line of ``sh``, waits on a pipe from the parent. If the parent
vanishes (SIGKILL), the guard kills the group of the child and removes its leftovers.
"""

from __future__ import annotations

import os
import signal
import subprocess
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from ..config import current_environment

#: Lines on the pipe: the process group to kill, then anything once the parent has cleaned up itself. Arguments: what
#: to remove. prctl(PR_SET_PDEATHSIG) is no alternative: the signal is sent when the starting *thread* ends, the code
#: has to run between fork and exec, and grandchildren and folders stay.
_GUARD = 'read -r group || exit; read -r done || { kill -s KILL -- "-$group"; sleep 0.2; rm -rf -- "$@"; }'

_STDERR = 2

#: Pipes to the guards. A forked child that lives on must not hold them open.
_pipes: weakref.WeakSet[IO[bytes]] = weakref.WeakSet()


def _close_pipes() -> None:
    for pipe in _pipes:
        os.close(pipe.fileno())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_pipes)


class Guard:
    """Kills a process group, and removes its leftovers, if this process vanishes."""

    def __init__(self, leftovers: Sequence[Path] = ()) -> None:
        """Start the guard, before the group that it watches, because this process may vanish at any time."""
        # A copy: if another thread changed ours while the child reads it, the start would fail with "Bad address".
        self._process = subprocess.Popen(  # noqa: S603 - a constant, no input
            ["/bin/sh", "-c", _GUARD, "guard", *map(str, leftovers)],
            stdin=subprocess.PIPE,
            env=current_environment(),
            start_new_session=True,
            bufsize=0,
        )

    @property
    def is_released(self) -> bool:
        """Whether :meth:`release` was called."""
        return self._process.returncode is not None

    def watch(self, group: int) -> None:
        """Kill this process group if this process vanishes before :meth:`release`."""
        pipe = self._process.stdin
        assert pipe is not None  # noqa: S101 - for the type checker
        _pipes.add(pipe)
        pipe.write(b"%d\n" % group)

    def release(self) -> None:
        """End the guard; the group stays as it is."""
        self._process.communicate(b"\n")


class ChildProcess:
    """
    A child process, together with everything that it starts in turn.

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
        is_piped: bool = False,
    ) -> None:
        """
        Start the program.

        Args:
            command: Program and arguments; no shell is involved.
            log: File for its output, appended to. ``None``: its output goes to our standard error.
            environment: The whole environment of the child. ``None``: ours.
            descriptors: Open files and sockets that the child inherits under the same numbers.
            leftovers: Folders and files that the guard removes if this process vanishes.
            is_piped: Whether :attr:`stdout` reads the standard output of the child.
        """
        self._guard = Guard(leftovers)
        output = log.open("ab") if log else None
        try:
            self._process = self._start(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if is_piped else output or _STDERR,
                stderr=output,
                env=current_environment() if environment is None else environment,
                pass_fds=descriptors,
                start_new_session=True,
            )
        except BaseException:
            self._guard.release()
            raise
        finally:
            if output:
                output.close()
        self._guard.watch(self.pid)

    def _start(self, command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, **options)  # noqa: S603 - a list, and no shell

    @property
    def pid(self) -> int:
        """Process id, and id of the process group."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the program itself still runs."""
        return self.returncode is None

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal; ``None`` while it runs."""
        return self._process.poll()

    @property
    def stdout(self) -> IO[bytes]:
        """Standard output of a piped child."""
        assert self._process.stdout is not None, "start it with is_piped=True"  # noqa: S101
        return self._process.stdout

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the program alone. Does nothing if it has ended."""
        self._process.send_signal(number)

    def wait(self, timeout: float | None = None) -> int:
        """
        Wait for the program to end, and return its exit status.

        Raises:
            subprocess.TimeoutExpired: If it still runs after ``timeout`` seconds.
        """
        return self._process.wait(timeout)

    def stop(self, *signals: signal.Signals, grace: float) -> None:
        """
        Send each signal in turn until the program ends, then kill its whole group.

        Args:
            signals: Signals, mildest first, sent to the program alone: it stops its own children.
            grace: Seconds to wait after each.
        """
        for number in signals:
            self.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self.wait(grace)
                break
        self.kill()

    def kill(self) -> None:
        """Kill the program and its whole group, and wait until it is gone. A second call does nothing."""
        if self._guard.is_released:
            return  # the process id may belong to another process by now
        with suppress(ProcessLookupError):  # the whole group has ended already
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._guard.release()
