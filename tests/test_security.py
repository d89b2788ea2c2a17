"""SECURITY.md promises nothing that no test holds."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "SECURITY.md").read_text()
NAMES = re.compile(r"`(test_\w+)`")


def existing_tests() -> set[str]:
    """All that are collected: functions of modules whose name begins with ``test_``."""
    return {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_every_named_test_of_the_security_page_exists() -> None:
    named = set(NAMES.findall(TEXT))

    assert len(named) > 40
    assert not named - existing_tests()


def test_every_row_of_the_table_names_its_tests() -> None:
    rows = [line.strip("| ").split(" | ") for line in TEXT.splitlines() if line.startswith("| **")]

    assert len(rows) == 9
    for who, _, _, may_not in rows:
        assert NAMES.search(may_not), who


def test_every_abuse_names_its_tests() -> None:
    section = TEXT.partition("## Abuse")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][2:]

    assert len(rows) >= 14
    for abuse, _, tests in rows:
        assert NAMES.search(tests), abuse
