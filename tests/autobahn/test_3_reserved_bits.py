"""Section 3: a reserved bit without an extension closes the connection; earlier messages get a reply."""

from __future__ import annotations

import pytest

from .cases import ANSWER, BINARY, CLOSE, PING, PROTOCOL_ERROR, TEXT, Case, assert_holds, frame, message, pieces, ping

GOOD = frame(TEXT, message())
CASES = [
    Case("3.1 text, bit 1", [frame(TEXT, message(), rsv=1)], [PROTOCOL_ERROR]),
    Case("3.2 behind a text, bit 2", [GOOD + frame(TEXT, message(), rsv=2) + ping()], [ANSWER, PROTOCOL_ERROR]),
    Case("3.3 bits 1 and 2", [GOOD, frame(TEXT, message(), rsv=3), ping()], [ANSWER, PROTOCOL_ERROR]),
    Case("3.4 bit 3, one by one", pieces(GOOD + frame(TEXT, message(), rsv=4) + ping()), [ANSWER, PROTOCOL_ERROR]),
    Case("3.5 binary, bits 1 and 3", [frame(BINARY, b"\x00\xff", rsv=5)], [PROTOCOL_ERROR]),
    Case("3.6 ping, bits 2 and 3", [frame(PING, b"Hello", rsv=6)], [PROTOCOL_ERROR]),
    Case("3.7 close, all bits", [frame(CLOSE, b"\x03\xe8", rsv=7)], [PROTOCOL_ERROR]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_reserved_bits(port: int, case: Case) -> None:
    assert_holds(port, case)
