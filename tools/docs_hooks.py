"""
Hooks of MkDocs: include files of the repository, and write each page as Markdown with a list of pages, ``llms.txt``.

A page that is ``<!-- include: CHANGELOG.md -->`` shows that file. The Markdown of ``start/flask/`` is at
``start/flask.md``, so links between the sources hold. Source: llmstxt.org.
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

ROOT = Path(__file__).resolve().parents[1]

_navigation: Navigation
_texts: dict[str, str] = {}


def on_nav(nav: Navigation, config: MkDocsConfig, files: Files) -> None:
    """Keep the navigation: it gives the order and the titles of the pages."""
    global _navigation
    _navigation = nav


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Include a file of the repository, and keep the text."""
    if included := re.match(r"<!-- include: (\S+) -->", markdown):
        markdown = (ROOT / included[1]).read_text()
        markdown = re.sub(r"\]\(([A-Z]+\.md)\)", lambda link: f"]({link[1].lower()})", markdown)
    _texts[page.file.src_uri] = markdown
    return markdown


def on_post_build(config: MkDocsConfig) -> None:
    """Write the files, once all pages are built."""
    folder = Path(config.site_dir)
    lines = [f"# {config.site_name}", "", f"> {config.site_description}", ""]
    for heading, pages in _sections():
        lines += [f"## {heading}", ""]
        for page in pages:
            name = page.file.src_uri
            (folder / name).write_text(_texts[name])
            lines.append(f"- [{page.title}]({name}): {_summary(_texts[name])}")
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
