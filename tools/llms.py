"""
A hook of MkDocs: writes each page as Markdown beside its HTML, and ``llms.txt``, a list of all pages for programs.

The Markdown of ``start/flask/`` is ``start/flask.md``, so links between the sources hold. Source: llmstxt.org.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import shorten

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.nav import Navigation, Section
from mkdocs.structure.pages import Page

_navigation: Navigation


def on_nav(nav: Navigation, config: MkDocsConfig, files: Files) -> None:
    """Keep the navigation: it gives the order and the titles of the pages."""
    global _navigation
    _navigation = nav


def on_post_build(config: MkDocsConfig) -> None:
    """Write the files, once all pages are built."""
    folder = Path(config.site_dir)
    lines = [f"# {config.site_name}", "", f"> {config.site_description}", ""]
    for heading, pages in _sections():
        lines += [f"## {heading}", ""]
        for page in pages:
            text = Path(page.file.abs_src_path or "").read_text()
            (folder / page.file.src_uri).write_text(text)
            lines.append(f"- [{page.title}]({page.file.src_uri}): {_summary(text)}")
        lines.append("")
    (folder / "llms.txt").write_text("\n".join(lines))


def _sections() -> Iterator[tuple[str, list[Page]]]:
    alone = [item for item in _navigation.items if isinstance(item, Page)]
    yield "Overview", alone
    for item in _navigation.items:
        if isinstance(item, Section):
            yield item.title, [page for page in item.children if isinstance(page, Page)]


def _summary(text: str) -> str:
    """Return the headings of a page, or its first sentence if it has none."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^## (.+)$", prose, re.MULTILINE)
    if headings:
        return shorten("; ".join(headings), 200, placeholder=" …")
    first = next(part for part in re.split(r"\n\s*\n", prose) if re.match(r"\s*[\w`*\[]", part))
    return re.split(r"(?<=[.:])\s", " ".join(first.split()))[0].rstrip(":")
