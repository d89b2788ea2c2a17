"""The examples in JavaScript, HTML, JSON, YAML and INI parse, and use names that exist."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"])
CLIENT = ROOT / "client"
#: Tags of HTML that have no end.
VOID = {"meta", "input", "link", "br", "img"}


def examples(*languages: str) -> list[tuple[str, str, str]]:
    """Return page, language and text of all examples."""
    found = []
    for page in PAGES:
        for language, text in re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
            if language in languages:
                found.append((page.name, language, text))
    return found


def scripts() -> list[tuple[str, str, str]]:
    """Return the JavaScript examples, those in HTML included."""
    in_html = [
        (page, "js", script)
        for page, _, text in examples("html")
        for script in re.findall(r"<script[^>]*>\n(.*?)</script>", text, re.DOTALL)
    ]
    written = [one for one in examples("js", "jsx", "ts") if one[:2] != ("javascript.md", "ts")]  # declarations
    return written + in_html


def test_every_language_is_checked() -> None:
    used = {language for page in PAGES for language in re.findall(r"^```(\w+)$", page.read_text(), re.MULTILINE)}

    checked_here = {"js", "jsx", "ts", "html", "json", "yaml", "ini", "dockerfile", "css"}
    # test_examples.py, test_reference.py, test_commands.py, test_http.py, test_run.py and the client's docs.test.mjs.
    checked_elsewhere = {"python", "py", "sh", "nginx", "caddyfile", "text", "tsx", "vue"}
    assert used <= checked_here | checked_elsewhere


def test_javascript_parses(tmp_path: Path) -> None:
    for number, (page, language, text) in enumerate(scripts()):
        (tmp_path / f"{number}-{page}.{language}").write_text(text)
    esbuild = CLIENT / "node_modules" / ".bin" / "esbuild"
    files = sorted(path for path in tmp_path.iterdir())
    assert files

    command = [esbuild, *files, f"--outdir={tmp_path / 'out'}", "--log-level=error", "--format=esm", "--jsx=automatic"]
    done = subprocess.run(command, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


def test_javascript_calls_methods_that_exist() -> None:
    declared = (CLIENT / "src" / "index.d.ts").read_text()
    (connection,) = re.findall(r"^export interface Connection \{(.*?)^\}", declared, re.DOTALL | re.MULTILINE)
    methods = set(re.findall(r"^  (?:readonly )?(\w+)[(:]", connection, re.MULTILINE))
    exported = {*re.findall(r"^export (?:function|const|class) (\w+)", declared, re.MULTILINE)}
    exported |= {*re.findall(r"^export class (\w+)", declared, re.MULTILINE)}

    for page, _, text in scripts():
        assert set(re.findall(r"\b(?:connection|connect\(\))\.(\w+)", text)) <= methods, page
        for names in re.findall(r"import \{ (.*?) \} from \"[^\"]*/jobpush\.js\"", text):
            assert set(re.split(r", ", names)) <= exported, page


def test_css_parses_and_uses_properties_and_parts_that_exist(tmp_path: Path) -> None:
    manifest = json.loads((CLIENT / "src" / "custom-elements.json").read_text())
    elements = {one["tagName"]: one for one in manifest["modules"][0]["declarations"]}
    texts = [text for _, _, text in examples("css")]
    assert texts
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.css").write_text(text)
        for element, body in re.findall(r"^([\w-]+)[^{]*\{(.*?)\}", text, re.DOTALL | re.MULTILINE):
            known = {one["name"] for one in elements[element]["cssProperties"]}
            assert set(re.findall(r"(--[\w-]+):", body)) <= known
        for element, part in re.findall(r"([\w-]+)::part\(([\w-]+)", text):
            assert part in {one["name"] for one in elements[element]["cssParts"]}
    esbuild = CLIENT / "node_modules" / ".bin" / "esbuild"

    command = [esbuild, *sorted(tmp_path.glob("*.css")), f"--outdir={tmp_path / 'out'}", "--log-level=warning"]
    done = subprocess.run(command, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("page", "language", "text"), examples("json", "yaml", "ini"))
def test_data_parses(page: str, language: str, text: str) -> None:
    if language == "json":
        assert json.loads(text)
    elif language == "yaml":
        assert list(yaml.safe_load_all(text)) != [None]
    else:
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(text)
        assert parser.sections()


@pytest.mark.parametrize(("page", "language", "text"), examples("dockerfile"))
def test_docker_files_pass_their_linter(page: str, language: str, text: str) -> None:
    # DL3006: the base image is built by the reader, without a tag.
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "--ignore", "DL3006", "-"], input=text, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout
    for source in re.findall(r"^COPY (?:--\S+ )?(.+) \S+$", text, re.MULTILINE):
        # COPY of a folder and files together would merge the folder's content.
        assert " " not in source or "templates" not in source.split()


@pytest.mark.parametrize(("page", "language", "text"), examples("html"))
def test_html_closes_its_tags_and_uses_elements_that_exist(page: str, language: str, text: str) -> None:
    manifest = json.loads((CLIENT / "src" / "custom-elements.json").read_text())
    elements = {
        one["tagName"]: {attribute["name"] for attribute in one.get("attributes", ())}
        for one in manifest["modules"][0]["declarations"]
    }
    global_attributes = {"id", "class", "lang", "dir", "style", "slot", "hidden"}
    opened: list[str] = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag not in VOID:
                opened.append(tag)
            if tag.startswith("jobpush-"):
                assert {name for name, _ in attrs} <= elements[tag] | global_attributes, (page, tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened and opened.pop() == tag, (page, tag)

    Checker().feed(re.sub(r"\{%.*?%\}|\{\{.*?\}\}", "", text))

    assert set(opened) <= {"html", "title", "p", "li"}, page
