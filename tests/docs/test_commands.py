"""Every command that a page shows runs, or exists with the options that it is given."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import celery.bin.celery
import click
import flask.cli
import gunicorn.config
import pytest
import uvicorn
import yaml

from jobpush.cli import main
from jobpush.config import Config
from jobpush.processes.embedded import EmbeddedRedis
from tests.effort import IS_FULL

ROOT = Path(__file__).parents[2]
PAGES = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
TARGETS = set(re.findall(r"^([a-z][a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
START = sorted((ROOT / "docs" / "start").glob("*.md"))
PACKAGE = json.loads((ROOT / "client" / "package.json").read_text())


def shell_blocks(page: Path) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of each command in the shell examples, the units and the prose of a page."""
    text = page.read_text()
    for block in shell_blocks(page):
        if "$(" in block and "curl" in block:
            continue  # test_http.py runs it
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r" && | \| ", re.sub(r"\$\([^)]*\)", "x", line)):
                if words := shlex.split(part, comments=True):
                    yield words
    for line in re.findall(r"^ExecStart=\S+/bin/(.+)$", text, re.MULTILINE):
        yield shlex.split(line)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    for line in re.findall(r"`((?:jobpush(?! in celery)|make|manage\.py|python manage\.py) [^`\n]+)`", prose):
        yield shlex.split(line.replace("…", "x").removeprefix("python "))


def options_of(command: click.Command) -> set[str]:
    return {name for one in command.params for name in (*one.opts, *one.secondary_opts)}


def check_click(group: click.Command) -> Callable[[list[str]], None]:
    """Return a check of the options of a command of click."""

    def check(words: list[str]) -> None:
        command, known = group, options_of(group)
        while words:
            word = words.pop(0)
            if word.startswith("-"):
                assert word.partition("=")[0] in {*known, "--help"}, word
            elif isinstance(command, click.Group) and word in command.commands:
                command = command.commands[word]
                known |= options_of(command)
            elif command is group and isinstance(group, click.Group):
                # The value of an option stands before the command; the command itself must exist.
                assert any(one in command.commands for one in words), word

    return check


def check_make(words: list[str]) -> None:
    assert not words or words[0] in TARGETS


def check_gunicorn(words: list[str]) -> None:
    gunicorn.config.Config().parser().parse_args(words)


def check_docker(words: list[str]) -> None:
    file = ROOT / words[words.index("-f") + 1]
    assert file.is_file()
    if "--target" in words:
        assert f" AS {words[words.index('--target') + 1]}\n" in file.read_text()


def check_kubectl(words: list[str]) -> None:
    manifests = (ROOT / "docker" / "kubernetes.yaml").read_text()
    if words[0] == "apply":
        assert (ROOT / words[words.index("-f") + 1]).is_file()
        return
    kind, name = words[1:3] if words[1] != "secret" else (words[1], words[3])
    keys = {key for word in words for key in re.findall(r"--from-literal=([\w-]+)=", word)}
    used = set(re.findall(rf"{kind}KeyRef: \{{name: {name}, key: ([\w-]+)\}}", manifests))
    assert keys == used and list(yaml.safe_load_all(manifests))


def check_pip(words: list[str]) -> None:
    extras = importlib.metadata.metadata("jobpush").get_all("Provides-Extra") or []
    assert words[0] == "install"
    assert all(extra in extras for word in words for extra in re.findall(r"jobpush\[([\w-]+)\]", word))


def check_npm(words: list[str]) -> None:
    assert words[0] in ("ci", "pack", "init", "pkg", "install")
    for word in words[1:] if words[0] == "install" else ():
        name = word.rpartition("/")[2]
        assert name == f"jobpush-{PACKAGE['version']}.tgz" or word in PACKAGE["devDependencies"], word


def check_python(words: list[str]) -> None:
    if words[0] == "manage.py":
        check_manage(words[1:])
    elif words[0] != "-m":  # test_the_installation_of_a_start_page_runs
        assert (ROOT / words[0]).is_file()
        script = (ROOT / words[0]).read_text()
        assert all(f'"{word}"' in script for word in words[1:] if word.startswith("--"))


def check_manage(words: list[str]) -> None:
    ours = {file.stem for file in (ROOT / "jobpush" / "django" / "management" / "commands").glob("[a-z]*.py")}
    assert words[0] in {"migrate", "runserver", "check", "test", *ours}


def check_export(words: list[str]) -> None:
    """The variables are settings; what a page calls otherwise is its own."""
    for word in words:
        name = word.partition("=")[0]
        known = name.removeprefix("JOBPUSH_").lower() in Config.__dataclass_fields__
        assert known or name in ("JOBPUSH_DEMO_SECRET", "JOBPUSH_REDIS_PASSWORD"), name


def is_run_elsewhere(words: list[str]) -> None:
    """Another test of this file, or of the test files named in PROGRAMS, runs the command."""


#: What checks the commands of each program. A program that is not here fails the test.
PROGRAMS: dict[str, Callable[[list[str]], None]] = {
    "jobpush": check_click(main),
    "make": check_make,
    "celery": check_click(celery.bin.celery.celery),
    "flask": check_click(flask.cli.cli),
    "uvicorn": check_click(uvicorn.main),
    "gunicorn": check_gunicorn,
    "manage.py": check_manage,
    "python": check_python,
    "python3": check_python,
    "pip": check_pip,
    "npm": check_npm,
    "docker": check_docker,
    "kubectl": check_kubectl,
    "export": check_export,
    "node": is_run_elsewhere,  # test_start.py
    "npx": is_run_elsewhere,  # test_npm_apps.py builds with Vite
    "curl": is_run_elsewhere,  # test_http.py
    "redis-cli": is_run_elsewhere,
    "xargs": is_run_elsewhere,
    "git": is_run_elsewhere,
    "mkdir": is_run_elsewhere,
    "cd": is_run_elsewhere,
    ".": is_run_elsewhere,
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_exist(page: Path) -> None:
    for program, *words in commands(page):
        PROGRAMS[program](words)


def test_there_are_commands_to_check() -> None:
    assert sum(1 for page in PAGES for _ in commands(page)) > 90


#: Programs that make test does not run here, because they take a minute or the network: what they leave behind.
STAND_INS = {
    "git": "mkdir -p jobpush/client && cp $ROOT/pyproject.toml jobpush && cp $ROOT/client/package.json jobpush/client",
    "python3": "mkdir -p .venv/bin && touch .venv/bin/activate",
    "pip": 'test -f ../jobpush/pyproject.toml && echo "$2" | grep -q "^../jobpush\\["',
    "npm": f'if [ "$1" = pack ]; then touch jobpush-{PACKAGE["version"]}.tgz; fi\n'
    'if [ "$1" = install ]; then test -f "$2" && test -d ../backend; fi\n'
    'if [ "$1" = ci ]; then test -f package.json; fi',
}


@pytest.mark.parametrize("page", [*START, ROOT / "README.md"], ids=lambda page: page.stem)
def test_installation_of_a_page_runs(page: Path, tmp_path: Path, redis_tcp: EmbeddedRedis) -> None:
    blocks = shell_blocks(page)
    end = next(number for number, block in enumerate(blocks) if "activate\nexport" in block or "manage.py" in block)
    script = "\n".join(blocks[:end]).replace("REPOSITORY", str(ROOT)).replace("make demo", "make help")
    for name, body in {} if IS_FULL else {**STAND_INS, "make": ":"}.items():
        write_program(tmp_path / "bin" / name, body)
    environment = with_redis_cli(tmp_path / "bin", redis_tcp) | {"ROOT": str(ROOT)}

    done = subprocess.run(["bash", "-ec", script], cwd=tmp_path, capture_output=True, text=True, env=environment)

    assert done.returncode == 0, done.stderr
    assert "PONG" in done.stdout


def test_old_layout_is_removed_by_the_command(tmp_path: Path, redis_tcp: EmbeddedRedis) -> None:
    (script,) = shell_blocks(ROOT / "docs" / "run" / "upgrades.md")
    environment = with_redis_cli(tmp_path, redis_tcp)
    for command in ("set jobpush:a 1", "set jobpush:b 1", "set other 1", script, "keys *"):
        command = command if command == script else f"redis-cli {command.replace('*', chr(39) + '*' + chr(39))}"
        done = subprocess.run(["bash", "-ec", command], capture_output=True, text=True, env=environment, check=True)

    assert done.stdout.split() == ["other"]


@pytest.fixture
def redis_tcp() -> Iterator[EmbeddedRedis]:
    """A Redis with a port."""
    with EmbeddedRedis(port=0) as server:
        yield server


def write_program(file: Path, body: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o700)


def with_redis_cli(folder: Path, server: EmbeddedRedis) -> dict[str, str]:
    """Return an environment whose ``redis-cli`` talks to the server of the test."""
    write_program(folder / "redis-cli", f'exec /usr/bin/redis-cli -u {server.url} "$@"')
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.mark.parametrize("page", [ROOT / "docs" / "run" / "containers.md"], ids=lambda page: page.stem)
def test_secrets_that_a_page_makes_are_long_enough(page: Path) -> None:
    for block in shell_blocks(page):
        for line in re.findall(r"^export .*openssl.*$", block, re.MULTILINE):
            script = f"{line}\nenv | grep ^JOBPUSH_"
            done = subprocess.run(["bash", "-ec", script], capture_output=True, text=True, check=True)
            values = dict(one.split("=", 1) for one in done.stdout.split())
            assert values and all(len(value) == 32 for value in values.values())
