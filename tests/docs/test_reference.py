"""The reference pages are those of the code, and nothing of it is missing there."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest

from jobpush.cli import main
from jobpush.config import Config

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """The script that writes the pages."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "tools" / "reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["settings.md", "commands.md", "errors.md", "python.md"])
def test_the_page_is_up_to_date(name: str, reference: ModuleType) -> None:
    assert (ROOT / "docs" / "reference" / name).read_text() == reference.pages()[name], "run make reference"


def test_every_setting_and_command_has_an_entry(reference: ModuleType) -> None:
    pages = reference.pages()

    assert set(re.findall(r"^### `JOBPUSH_(\w+)`", pages["settings.md"], re.MULTILINE)) == {
        item.name.upper() for item in fields(Config)
    }
    assert {f"jobpush {name}" for name in main.commands} <= set(
        re.findall(r"^## `(.+)`", pages["commands.md"], re.MULTILINE)
    )
