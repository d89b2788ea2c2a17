"""Section 4: an undefined opcode closes the connection."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .cases import ANSWER, PROTOCOL_ERROR, TEXT, Case, assert_holds, frame, message, pieces, ping

GOOD = frame(TEXT, message())


def cases(section: str, opcodes: range) -> Iterator[Case]:
    first, second, third, fourth, fifth = opcodes
    yield Case(f"{section}.1 opcode {first}", [frame(first)], [PROTOCOL_ERROR])
    yield Case(f"{section}.2 opcode {second} with payload", [frame(second, b"reserved")], [PROTOCOL_ERROR])
    for number, opcode, payload in ((3, third, b""), (4, fourth, b"reserved")):
        sends = [GOOD, frame(opcode, payload), ping()]
        yield Case(f"{section}.{number} opcode {opcode} behind a text", sends, [ANSWER, PROTOCOL_ERROR])
    whole = GOOD + frame(fifth, b"reserved") + ping()
    yield Case(f"{section}.5 opcode {fifth}, one by one", pieces(whole), [ANSWER, PROTOCOL_ERROR])


CASES = [*cases("4.1", range(3, 8)), *cases("4.2", range(11, 16))]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_opcodes(port: int, case: Case) -> None:
    assert_holds(port, case)
