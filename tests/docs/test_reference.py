"""The reference pages are those of the code, and nothing of it is missing there."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import jobpush
from jobpush.cli import main
from jobpush.config import Config
from jobpush.webhooks.kinds import KINDS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """The script that writes the pages."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "tools" / "reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES = ["settings.md", "commands.md", "errors.md", "python.md", "http.md", "widget.md", "javascript.md", "limits.md"]


@pytest.mark.parametrize("name", PAGES)
def test_page_is_up_to_date(name: str, reference: ModuleType) -> None:
    assert (ROOT / "docs" / "reference" / name).read_text() == reference.pages()[name], "run make reference"


def test_every_error_code_has_an_entry_and_a_remedy(reference: ModuleType) -> None:
    page = reference.pages()["errors.md"]
    sources = "".join(path.read_text() for path in (ROOT / "jobpush").rglob("*.py"))
    codes = {*re.findall(r'^    code(?:: ClassVar\[str\])? = "(\w+)"', sources, re.MULTILINE)} - {"error"}
    codes.update(re.findall(r'_error\(\d+, "(\w+)"', sources))
    cures = re.findall(r"^\| `?(\w+)`?(?:<br>`\w+`)? \|.*\| ([^|]+) \|$", page, re.MULTILINE)

    assert codes == set(reference.CURES) == {code for code, _ in cures if code.islower()} - {"code", "status"}
    assert {error.__name__ for error in reference.wire_errors()} < set(reference.WIRE_CURES)
    assert all(len(cure) > 10 for code, cure in cures if code not in ("code", "status"))


def test_every_wire_event_has_an_entry() -> None:
    page = (ROOT / "docs" / "reference" / "wire.md").read_text()
    _, from_client, from_gateway, *_ = re.split(r"^## ", page, flags=re.MULTILINE)
    package = ROOT / "jobpush"
    server = (package / "protocol" / "server.py").read_text()
    sent = "".join(
        path.read_text()
        for path in (package / "protocol" / "messages.py", package / "events.py", *package.glob("store/lua/*.lua"))
    )

    assert set(re.findall(r"^\| `([\w:…-]+)`", from_client, re.MULTILINE)) == {
        *re.findall(r'case "(\w+:\w+)":', server),
        "client-…",
    }
    assert {*re.findall(r"^(?:\| )?`(\w+:\w+)`", from_gateway, re.MULTILINE)} == {
        *re.findall(r"""["']((?:pusher|pusher_internal|jobpush):\w+)\\?["']""", sent)
    }


def test_every_code_of_a_text_has_an_entry_and_a_translation() -> None:
    """Each text of jobpush has a code, see ``CodedText``; a value may follow it: "no_worker:<queue>"."""
    package = ROOT / "jobpush"
    sources = "".join(path.read_text() for kind in ("py", "lua") for path in package.glob(f"**/*.{kind}"))
    codes = set(re.findall(r'CodedText\([^()]*, f?"(\w+)[:"]', sources))
    codes |= set(re.findall(r'"error_code\\\\":\\\\"(\w+)', sources))
    assert {"no_worker", "worker_died", "progress_lost"} <= codes

    table = (ROOT / "docs" / "reference" / "wire.md").read_text().split("| code | text |")[1].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)(?::<\w+>)?` \|", table, re.MULTILINE)) == codes
    for language in ("de", "ar"):
        translated = read(f"locales/{language}.js").split("reason: reasonOf({")[1].split("}),")[0]
        assert set(re.findall(r"^ {4}(\w+):", translated, re.MULTILINE)) == codes


def test_every_public_name_has_an_entry(reference: ModuleType) -> None:
    pages = reference.pages()
    names = set(re.findall(r"^## `jobpush\.(\w+)`", pages["python.md"], re.MULTILINE))
    errors = {
        name for name in jobpush.__all__ if name.endswith("Error") or name[0] == "I" or name in pages["errors.md"]
    }

    assert set(jobpush.__all__) - names <= errors


def test_every_check_of_the_doctor_is_in_the_troubleshooting_page() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "jobpush" / "cli" / "diagnosis").glob("*.py"))
    page = (ROOT / "docs" / "reference" / "troubleshooting.md").read_text()
    symptoms, table = page.split("## All checks of the doctor")
    checks = set(re.findall(r"^\| `([\w ]+)` \|", table, re.MULTILINE))

    assert checks == set(re.findall(r'\b(?:ok|failed|warning|skipped)\(\s*"([\w ]+)"', sources))
    assert {
        name for names in re.findall(r"doctor: (`.*`) \|", symptoms) for name in re.findall("`(.+?)`", names)
    } <= checks


def test_every_export_of_the_javascript_module_has_an_entry(reference: ModuleType) -> None:
    page = reference.pages()["javascript.md"]
    types = (ROOT / "client" / "src" / "index.d.ts").read_text()
    exported = set(re.findall(r"^export (?:type|interface|function|const) (\w+)", types, re.MULTILINE))

    assert {name for name in exported if not name.startswith("Jobpush")} <= set(
        re.findall(r"^### `(\w+)`", page, re.MULTILINE)
    )
    assert page.count("### `useTask`") == 2


def test_every_kind_of_webhook_has_an_entry() -> None:
    page = (ROOT / "docs" / "reference" / "wire.md").read_text().split("## Webhooks")[1].split("\n## ")[0]
    document = yaml.safe_load((ROOT / "docs" / "reference" / "openapi.yaml").read_text())
    schema = document["components"]["schemas"]["WebhookEvent"]["properties"]

    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == KINDS.keys() == set(schema["name"]["enum"])
    members = {
        name for row in re.findall(r"^\| `\w+` \| (.*?) \|", page, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    assert members | {"name"} == set(schema)


# -- elements --------------------------------------------------------------------------------------------

SOURCES = ROOT / "client" / "src"
ELEMENTS = {
    one["tagName"]: one
    for one in json.loads((SOURCES / "custom-elements.json").read_text())["modules"][0]["declarations"]
}


def names(tag: str, kind: str) -> set[str]:
    return {one["name"] for one in ELEMENTS[tag].get(kind, ())}


def read(*patterns: str) -> str:
    return "".join(path.read_text() for pattern in patterns for path in sorted(SOURCES.glob(pattern)))


def parts(source: str) -> set[str]:
    """The parts that a source makes, without the words that a part has in some states."""
    made = re.findall(r'\bmake(?:Icon\(|\([^,()]+, )[^"`,]*["`]([a-z][a-z-]+)[ "`]', source)
    return {*made, *re.findall(r'\.part = "([\w-]+)"', source)}


def test_elements_match_the_module() -> None:
    assert set(ELEMENTS) == set(re.findall(r'define\("([\w-]+)"', read("index.js")))


def test_element_attributes_match_the_sources() -> None:
    source = read("elements/**/*.js", "attention.js")
    used = set(re.findall(r'(?:has|get)Attribute\("([\w-]+)"\)', source)) - {"d", "value"}  # of other elements
    used.update(re.findall(r":host\(\[([\w-]+)\]\)", read("elements/**/*.css")))

    assert names("jobpush-tasks", "attributes") | names("jobpush-progress", "attributes") == used - {
        "hidden",
        "data-stale",
    }


def test_element_events_match_the_sources() -> None:
    source = read("elements/**/*.js")
    ends = re.search(r"isFinal = .* /([A-Z|]+)/", read("states.js"))
    assert ends is not None
    sent = {*re.findall(r'_dispatch\("(\w+)"', source), *ends[1].replace("LOST", "FAILURE").lower().split("|")}

    for tag in ("jobpush-tasks", "jobpush-progress"):
        assert names(tag, "events") == {f"jobpush-progress-{name}" for name in sent}


def test_element_slots_and_properties_match_the_sources() -> None:
    slots = set(re.findall(r'make\("slot".*name: "(\w+)"|slotNode\.name = `([\w-]+)', read("elements/**/*.js")))

    assert {name.removesuffix("<id>") for name in names("jobpush-tasks", "slots")} == {*map("".join, slots)}
    assert names("jobpush-tasks", "cssProperties") == set(re.findall(r"--jobpush-[a-z]+", read("elements/**/*.css")))
    assert names("jobpush-notifications", "cssProperties") == set(re.findall(r"--jobpush-[a-z]+", read("inbox.css")))


def test_element_parts_match_the_sources() -> None:
    assert names("jobpush-tasks", "cssParts") == parts(read("elements/**/*.js"))
    assert names("jobpush-progress", "cssParts") < names("jobpush-tasks", "cssParts")
    assert names("jobpush-notifications", "cssParts") == parts(read("inbox.js"))
    assert names("jobpush-badge", "cssParts") == {"badge"}


def test_every_setting_and_command_has_an_entry(reference: ModuleType) -> None:
    pages = reference.pages()

    assert set(re.findall(r"^### `JOBPUSH_(\w+)`", pages["settings.md"], re.MULTILINE)) == {
        item.name.upper() for item in fields(Config)
    }
    assert {f"jobpush {name}" for name in main.commands} <= set(
        re.findall(r"^## `(.+)`", pages["commands.md"], re.MULTILINE)
    )
