"""The documentation builds without a warning, also as Markdown with a list of all pages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)

    assert (done.returncode, done.stderr) == (0, "")
    site = tmp_path / "site"
    assert (site / "start" / "flask" / "index.html").is_file()
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    listed = re.findall(r"^- \[.+\]\((.+)\): .+$", (site / "llms.txt").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(pages)
    for name in pages:
        text = (site / name).read_text()
        source = (ROOT / "docs" / name).read_text()
        assert text.strip() == source.strip() or (source.startswith("<!-- include:") and text.startswith("# ")), name
        for link in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text):
            assert (site / name).parent.joinpath(link).exists(), (name, link)


def test_every_picture_is_on_a_page_and_small() -> None:
    pages = "".join(
        page.read_text() for page in [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "mkdocs.yml"]
    )

    for picture in (ROOT / "docs" / "pictures").iterdir():
        assert f"pictures/{picture.name}" in pages, picture
        assert picture.stat().st_size < 600_000, picture
