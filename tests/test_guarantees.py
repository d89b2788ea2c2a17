"""Every sentence of ``docs/guarantees.md`` names a test, and every test that it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_TEXT = (_ROOT / "docs" / "guarantees.md").read_text()
_NAME = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_sentence_names_a_test() -> None:
    sentences = re.findall(r"^- .*(?:\n  .*)*", _TEXT, re.MULTILINE)
    rows = re.findall(r"^\| (?!failure of|---).*", _TEXT, re.MULTILINE)

    assert len(sentences) > 20 and len(rows) > 5
    assert [one for one in [*sentences, *rows] if not _NAME.search(one)] == []


def test_every_named_test_of_the_guarantees_exists() -> None:
    named = set(_NAME.findall(_TEXT))

    assert {(path, name) for path, name in named if name not in names_in(path)} == set()


def names_in(path: str) -> set[str]:
    """The names of the tests of a file; none if there is no such file."""
    file = _ROOT / path
    if not file.is_file():
        return set()
    return {node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)}
