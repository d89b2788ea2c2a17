"""The README and ``docs/protocol.md``: what they state holds. ``test_quick_start.py`` runs the README's example."""

from __future__ import annotations

import re
from pathlib import Path

from jobpush.config import Config

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()


def test_limits_are_the_defaults_of_the_settings() -> None:
    (table,) = re.findall(r"## Limits\n(.*?)\n## ", README, re.DOTALL)
    rows = re.findall(r"^\| .* \| ([\d,]+) \| `JOBPUSH_(\w+)` \|$", table, re.MULTILINE)

    assert len(rows) == table.count("JOBPUSH_")
    assert {name: int(value.replace(",", "")) for value, name in rows} == {
        name: getattr(Config(), name.lower()) for _, name in rows
    }


def test_every_row_of_the_protocol_table_names_a_test_that_exists() -> None:
    (table,) = re.findall(r"^(\| \| jobpush .*?)\n\n", PROTOCOL, re.DOTALL | re.MULTILINE)
    names = re.findall(r"`(test_\w+|[a-z]+(?:[A-Z]\w+)+)` \|$", table, re.MULTILINE)
    folder = Path(__file__).parent
    sources = "".join(path.read_text() for path in [*folder.rglob("test_*.py"), *folder.glob("stock_clients/*.mjs")])

    assert len(names) == len(re.findall(r"^\| ", table, re.MULTILINE)) - 2
    assert [name for name in names if not re.search(rf"(def|function) {name}\(", sources)] == []


def test_links_have_a_target() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md"]
    pages += (ROOT / "docs").rglob("*.md")

    dead = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in pages
        for link in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text())
        if not (page.parent / link).exists()
    ]

    assert dead == []


def test_unreleased_package_is_installed_from_the_repository() -> None:
    assert not re.search(r"pip install ['\"]?jobpush(\[\w+\])?['\"]?$", README, re.MULTILINE)
