"""The C programs: the load, the publisher, and the loops that show the limits of the machine."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from ..errors import BenchmarkError

_SOURCES = Path(__file__).parent
_BUILD = Path(__file__).parents[3] / "build" / "benchmarks"
_FLAGS = ["-O2", "-Wall", "-Wextra", "-Werror"]


def compiled(name: str) -> str:
    """
    Return the path of a program; compile it if its source has changed.

    Raises:
        BenchmarkError: If there is no C compiler, or the source does not compile.
    """
    source = _SOURCES / f"{name}.c"
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise BenchmarkError("no C compiler found; install one (on Debian: apt-get install gcc libc6-dev)")
    contents = b"".join(path.read_bytes() for path in (source, *sorted(_SOURCES.glob("*.h"))))
    program = _BUILD / f"{name}-{hashlib.sha256(contents).hexdigest()[:12]}"
    if not program.exists():
        _BUILD.mkdir(parents=True, exist_ok=True)
        unfinished = program.with_suffix(".new")
        command = [compiler, *_FLAGS, "-o", str(unfinished), str(source)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            raise BenchmarkError(f"{source.name} does not compile: {result.stderr.strip()[-2000:]}")
        unfinished.rename(program)
    return str(program)
