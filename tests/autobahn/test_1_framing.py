"""Section 1: text and binary messages, with sizes at the limits of each length encoding."""

from __future__ import annotations

import pytest

from .cases import ANSWER, BINARY, NO_BINARY, NOT_JSON, TEXT, Case, assert_holds, frame, message, pieces

SIZES = [125, 126, 127, 128, 65_535, 65_536]
CASES = [
    Case("1.1.1 empty text", [frame(TEXT)], [NOT_JSON]),
    *(Case(f"1.1 text of {size}", [frame(TEXT, message(size))], [ANSWER]) for size in SIZES),
    Case("1.1.8 text in chops", pieces(frame(TEXT, message(65_536)), 997), [ANSWER]),
    *(Case(f"1.2 binary of {size}", [frame(BINARY, b"\xfe" * size)], NO_BINARY) for size in [0, *SIZES]),
    Case("1.2.8 binary in chops", pieces(frame(BINARY, b"\xfe" * 65_536), 997), NO_BINARY),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_framing(port: int, case: Case) -> None:
    assert_holds(port, case)
