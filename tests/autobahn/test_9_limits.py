"""Section 9: messages up to the size limit and beyond it, whole and in pieces, and many messages."""

from __future__ import annotations

import pytest

from .cases import (
    ANSWER,
    BINARY,
    CONTINUATION,
    PROTOCOL_ERROR,
    TEXT,
    TOO_BIG,
    Case,
    assert_holds,
    fragments,
    frame,
    message,
    pieces,
    ping,
)

LIMIT = 65_536
#: Bytes of a message that exceeds every limit.
LONG = 1_048_576
MANY = 1_000
CASES = [
    Case("9.1.1 text of the maximum size", [frame(TEXT, message(LIMIT))], [ANSWER]),
    Case("9.1.2 text of one byte more", [frame(TEXT, message(LIMIT + 1))], TOO_BIG),
    Case("9.1.3 text of a megabyte", [frame(TEXT, message(LONG))], TOO_BIG),
    Case("9.2 binary of a megabyte", [frame(BINARY, b"\xfe" * LONG)], TOO_BIG),
    Case("9.2.6 a length that no message has", [frame(BINARY, size=2**63 - 1)], TOO_BIG),
    Case("9.2.7 a length with its highest bit set", [b"\x82\xff" + b"\xff" * 8], [PROTOCOL_ERROR]),
    Case("9.2.8 a length in the wrong form", [b"\x81\xfe\x00\x7d" + b"\x00" * 4], [PROTOCOL_ERROR]),
    Case("9.2.9 a length in another wrong form", [b"\x81\xff" + b"\x00" * 6 + b"\xff\xff"], [PROTOCOL_ERROR]),
    *(
        Case(f"9.3 text of the maximum size in fragments of {size}", fragments(pieces(message(LIMIT), size)), [ANSWER])
        for size in (64, 256, 1_024, 4_096, 16_384, 65_536)
    ),
    *(
        Case(f"9.3 a byte too much in fragments of {size}", fragments(pieces(message(LIMIT + 1), size)), TOO_BIG)
        for size in (64, 16_384)
    ),
    Case("9.4 binary in fragments", fragments(pieces(b"\xfe" * LONG, 4_096), opcode=BINARY), TOO_BIG),
    *(
        Case(f"9.5 text of the maximum size in chops of {size}", pieces(frame(TEXT, message(LIMIT)), size), [ANSWER])
        for size in (128, 512, 2_048, 30_000)
    ),
    Case(
        "9.6 empty fragments",
        [frame(TEXT, fin=False), frame(CONTINUATION, fin=False) * MANY, ping()],
        [("pong", b"")],
    ),
    *(
        Case(f"9.7 many texts of {size}", [frame(TEXT, message(size)) * MANY], [ANSWER] * MANY)
        for size in (64, 256, 1_024)
    ),
    Case("9.8 many pings", [ping(b"?") * MANY], [("pong", b"?")] * MANY),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_limits(port: int, case: Case) -> None:
    assert_holds(port, case)
