"""The commands that the pages show exist, with the options that they are given."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from jobpush.cli import main

ROOT = Path(__file__).parents[2]
PAGES = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
TARGETS = set(re.findall(r"^([a-z][a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def commands(page: Path) -> list[str]:
    """Return the commands in the shell examples and in the prose of a page."""
    text = re.sub(r"```text\n.*?```", "", page.read_text(), flags=re.DOTALL)
    examples = "\n".join(re.findall(r"```(?:sh|ini)\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    prose = re.findall(r"`((?:jobpush(?! in celery)|make) [^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [*re.findall(r"\b(jobpush [a-z].*|make [a-z].*)$", examples, re.MULTILINE), *prose]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_exist(page: Path) -> None:
    for line in commands(page):
        program, *words = shlex.split(line.replace("…", "x"), comments=True)
        if program == "make":
            assert not words or words[0] in TARGETS, line
            continue
        command: click.Command = main
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            assert words[0] in command.commands, line
            command = command.commands[words.pop(0)]
        options = {name for one in (*command.params, *main.params) for name in (*one.opts, *one.secondary_opts)}
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= {*options, "--help"}, line


def test_commands_to_check_exist() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 30
