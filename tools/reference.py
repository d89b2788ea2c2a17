"""
Write the reference pages of the documentation from the code: ``python tools/reference.py`` (``make reference``).

Settings come from ``config.py``, commands from click, errors from their classes, the Python interface from docstrings.
A test fails if the pages are stale.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path

import click

from jobpush import JobPush, progress, tokens
from jobpush import errors as public_errors
from jobpush.cli import main
from jobpush.config import Config
from jobpush.errors import JobPushError
from jobpush.protocol import codes
from jobpush.protocol.codes import PusherError

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "reference"
NOTE = "<!-- Written by tools/reference.py: change the code, then run make reference. -->\n"


def pages() -> dict[str, str]:
    """Return the pages by file name."""
    return {
        "settings.md": settings(),
        "commands.md": commands(),
        "errors.md": errors(),
        "python.md": python_interface(),
    }


def settings() -> str:
    """Return the page of all settings, one section per group of ``config.py``."""
    source = inspect.getsource(Config)
    comments = re.findall(r"((?:^    #: ?.*\n)+)^    (\w+):", source, re.MULTILINE)
    texts = {
        name: " ".join(line.strip().removeprefix("#:").strip() for line in lines.splitlines())
        for lines, name in comments
    }
    groups = {match.start(): match[1] for match in re.finditer(r"^    # -- (.+?) -+$", source, re.MULTILINE)}
    parts = [
        "# Settings",
        NOTE,
        "Each setting is looked up in this order: keyword argument of `JobPush` or `Gateway`, `app.config` (Flask) or "
        "`celery_app.conf` (Celery, in lower case), environment variable, default.",
    ]
    heading = ""
    for item in fields(Config):
        position = source.index(f"    {item.name}:")
        group = next(title for start, title in sorted(groups.items(), reverse=True) if start < position)
        if group != heading:
            heading = group
            parts.append(f"## {heading[0].upper()}{heading[1:]}")
        default = item.default if item.default is not MISSING else ""
        shown = ",".join(default) if isinstance(default, tuple) else default
        kind = type(default).__name__.replace("tuple", "list, comma-separated").replace("str", "text")
        default_text = f"default `{shown}`" if shown not in ("", None) else "no default"
        parts.append(f"### `JOBPUSH_{item.name.upper()}`\n\n{kind}, {default_text}\n\n{as_markdown(texts[item.name])}")
    return "\n\n".join(parts) + "\n"


def commands() -> str:
    """Return the page of all commands with their help."""
    parts = ["# Commands", NOTE]
    for path, command in walk("jobpush", main):
        context = click.Context(command, info_name=path, max_content_width=100, terminal_width=100)
        parts.append(f"## `{path}`\n\n```text\n{command.get_help(context)}\n```")
    return "\n\n".join(parts) + "\n"


def walk(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """Yield a command and its subcommands, each with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        for name, child in sorted(command.commands.items()):
            yield from walk(f"{path} {name}", child)


def errors() -> str:
    """Return the page of all stable error codes, in Python and on the wire."""
    parts = ["# Error codes", NOTE, "## In Python and in JSON\n\n| code | class | meaning |\n| --- | --- | --- |"]
    rows = []
    for error in sorted(subclasses(JobPushError), key=lambda one: (one.code, one.__name__)):
        if not issubclass(error, PusherError) and error.__module__ in (public_errors.__name__, tokens.__name__):
            rows.append(f"| `{error.code}` | `{error.__name__}` | {first_line(error)} |")
    parts[-1] += "\n" + "\n".join(rows)
    rows = []
    numbered = [one for one in subclasses(PusherError) if hasattr(one, "number") and one.__module__ == codes.__name__]
    for error in sorted(numbered, key=lambda one: (one.number, one.__name__)):
        if hasattr(error, "sentence"):
            after = "the connection stays" if error.close_code is None else "the connection is closed"
            rows.append(f"| {error.number} | {error.sentence} | {first_line(error)} | {after} |")
    head = "## On the wire\n\n| code | message | meaning | then |\n| --- | --- | --- | --- |\n"
    parts.append(head + "\n".join(dict.fromkeys(rows)))
    return "\n\n".join(parts) + "\n"


def subclasses(cls: type) -> Iterator[type]:
    """Yield all classes below a class."""
    for child in cls.__subclasses__():
        yield child
        yield from subclasses(child)


def python_interface() -> str:
    """Return the page of the public methods, from their docstrings."""
    parts = ["# Python interface", NOTE]
    for title, target in (("`jobpush = JobPush(...)`", JobPush), ("`progress`", type(progress))):
        parts.append(f"## {title}\n\n{as_code(target)}")
        for name, member in vars(target).items():
            function = member.fget if isinstance(member, property) else member
            if not name.startswith("_") and inspect.getdoc(function):
                signature = (
                    "" if isinstance(member, property) else str(inspect.signature(function)).replace("(self, ", "(")
                )
                signature = signature.replace("(self)", "()").replace("'", "")
                signature = re.sub(r"<object object at \w+>", "…", signature)  # a default that stands for "not given"
                parts.append(f"### `{name}{signature}`\n\n{as_code(function)}")
    return "\n\n".join(parts) + "\n"


def first_line(target: object) -> str:
    """Return the first sentence of a docstring as the cell of a table."""
    return as_markdown((inspect.getdoc(target) or "").split("\n\n")[0].replace("\n", " ")).replace("|", "\\|")


def as_markdown(text: str) -> str:
    """Turn the markup of docstrings into Markdown."""
    return re.sub(r":\w+:`~?\.?([^`]+)`", r"`\1`", text).replace("``", "`").replace("<", "&lt;")


def as_code(target: object) -> str:
    """Return a docstring as it is laid out."""
    return f"```text\n{inspect.getdoc(target)}\n```"


if __name__ == "__main__":
    PAGES.mkdir(exist_ok=True)
    for name, text in pages().items():
        (PAGES / name).write_text(text)
    sys.exit(0)
