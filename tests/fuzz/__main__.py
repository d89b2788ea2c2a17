"""
The coverage-guided fuzzer: ``python -m tests.fuzz MINUTES [TARGET …]``, on one core; each target has its share of the
time, all of them if none is named.

What is new to the code is kept in the corpus, in as few and short files as show the same; what raises is kept in
``crashes`` and ends the run of its target.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .seeds import CORPUS, SEEDS, keep, write
from .targets import TARGETS
from .ways import Way, ways_of

_HERE = Path(__file__).parent
_CRASHES = _HERE / "crashes"
#: Bytes of the longest input; all that is interesting is said in fewer.
_MAX_SIZE = 1_024
_PROGRESS = re.compile(r"#(\d+)\s.*cov: (\d+)")
_EXECUTIONS = re.compile(r"stat::number_of_executed_units:\s*(\d+)")


@dataclass
class Result:
    """What came of one target."""

    name: str
    executions: int = 0
    coverage: int = 0
    crashes: int = 0
    kept: int = 0


def main() -> int:
    """Run all targets for so many minutes together; 1 if anything crashed."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    write()
    begun = time.monotonic()
    names = sys.argv[2:] or list(TARGETS)
    results = [_run(name, minutes * 60 / len(names)) for name in names]
    print(f"\n{'target':<16}{'executions':>12}{'edges':>8}{'crashes':>9}{'corpus':>8}")
    for one in results:
        print(f"{one.name:<16}{one.executions:>12,}{one.coverage:>8}{one.crashes:>9}{one.kept:>8}")
    executions, crashes = sum(one.executions for one in results), sum(one.crashes for one in results)
    size = sum(file.stat().st_size for file in CORPUS.rglob("*") if file.is_file())
    print(
        f"{executions:,} executions in {(time.monotonic() - begun) / 60:.1f} minutes, {crashes} crashes; "
        f"corpus: {sum(one.kept for one in results)} files, {size:,} bytes"
    )
    return 1 if crashes else 0


def _run(name: str, seconds: float) -> Result:
    """Fuzz one target, then keep the least that shows all that was found."""
    result = Result(name)
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found"
        found.mkdir()
        options = [f"-max_total_time={max(1, int(seconds))}", "-print_final_stats=1", f"-max_len={_MAX_SIZE}"]
        _CRASHES.mkdir(exist_ok=True)
        before, is_crashing = _crashes_of(name), False
        options += [f"-artifact_prefix={_CRASHES}/{name}-", f"-dict={_HERE / 'words.dict'}", "-timeout=10"]
        for line in _child(name, *options, str(found), str(CORPUS / name)):
            if progress := _PROGRESS.match(line):
                result.executions, result.coverage = int(progress[1]), int(progress[2])
                _show(f"{name}: {result.executions:,} executions, {result.coverage} edges")
            elif final := _EXECUTIONS.match(line):
                result.executions = int(final[1])
            is_crashing = is_crashing or "Uncaught Python exception" in line or "ERROR: libFuzzer" in line
            if is_crashing and not line.startswith("stat::"):
                print(line)
        result.crashes = _crashes_of(name) - before
        result.kept = _keep(name, found)
    print(f"\r{name}: {result.executions:,} executions, {result.crashes} crashes", flush=True)
    return result


def _crashes_of(name: str) -> int:
    return len(list(_CRASHES.glob(f"{name}-*")))


def _show(progress: str) -> None:
    """One line on a terminal, which the next one takes the place of; elsewhere none."""
    if sys.stdout.isatty():
        print(f"\r{progress} ", end="", flush=True)


def _keep(name: str, found: Path) -> int:
    """
    Keep of the corpus and of what was found the smallest inputs that together go every way; the seeds stay.

    libFuzzer could do it too, but not where Python is what it would have to start again.
    """
    ways: set[Way] = set()
    inputs = {file.read_bytes() for folder in (CORPUS / name, found) for file in folder.iterdir()}
    for file in (CORPUS / name).iterdir():
        file.unlink()
    write()
    for data in [*SEEDS[name], *sorted(inputs, key=len)]:
        new = ways_of(TARGETS[name], data) - ways
        if new:
            ways |= new
            keep(name, data)
    return len(list((CORPUS / name).iterdir()))


def _child(name: str, *options: str) -> Iterator[str]:
    """The lines that a process says which fuzzes one target."""
    command = [sys.executable, "-m", "tests.fuzz.child", name, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            yield line.rstrip()


if __name__ == "__main__":
    sys.exit(main())
