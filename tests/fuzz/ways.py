"""Which ways an input goes through the code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeAlias

#: Two lines of a file, the one behind the other.
Way: TypeAlias = tuple[str, int, int]


def ways_of(target: Callable[[bytes], None], data: bytes) -> set[Way]:
    """All ways through our code and wsproto's; what the input raises is for others to judge."""
    ways: set[Way] = set()
    before: dict[FrameType, int] = {}

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        if "/jobpush/" not in name and "/wsproto/" not in name:
            return None
        if event == "line":
            ways.add((name, before.get(frame, 0), frame.f_lineno))
            before[frame] = frame.f_lineno
        return trace

    sys.settrace(trace)
    try:
        target(data)
    except Exception:
        ways.add(("raised", 0, 0))
    finally:
        sys.settrace(None)
    return ways
