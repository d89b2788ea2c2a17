"""One target under the coverage-guided fuzzer: ``python -m tests.fuzz.child TARGET [options of libFuzzer]``."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["jobpush", "wsproto"]):
    from .targets import TARGETS


def main() -> None:
    """Hand everything over to libFuzzer, which ends the process."""
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
