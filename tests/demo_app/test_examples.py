"""The chat and the feed are short enough to serve as examples."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "demo_app"
#: Tokens that do not count as code.
NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


@pytest.mark.parametrize("example", ["chat", "feed"])
def test_example_has_at_most_sixty_lines_of_code(example: str) -> None:
    python, javascript = DEMO / f"{example}.py", DEMO / "static" / f"{example}.js"

    assert 0 < lines_of_python(python.read_text()) + lines_of_javascript(javascript.read_text()) <= 60


@pytest.mark.parametrize("page", ["site.videos_page", "site.chat.page", "site.feed.page"])
def test_each_page_is_linked_from_the_header(page: str) -> None:
    (header,) = re.findall(r"<header.*?</header>", (DEMO / "templates" / "base.html").read_text(), re.DOTALL)

    assert page in header


def lines_of_python(source: str) -> int:
    """Return the number of lines, without blank lines, comments and docstrings."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.FunctionDef)) and ast.get_docstring(node):
            docstring = node.body[0]
            lines.difference_update(range(docstring.lineno, (docstring.end_lineno or 0) + 1))
    return len(lines)


def lines_of_javascript(source: str) -> int:
    """Return the number of lines, without blank lines and lines that are only comments."""
    without_blocks = re.sub(r"/\*.*?\*/", "", source, flags=re.DOTALL)
    return sum(1 for line in without_blocks.splitlines() if line.strip() and not line.strip().startswith("//"))
