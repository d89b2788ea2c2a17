"""
The files for containers, without any: their syntax, and the very commands that they name.

A container engine is not needed; addresses of the containers' network are replaced by free ports of the loopback.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import yaml

from jobpush.cli.embedded import EmbeddedRedis
from jobpush.cli.processes import ChildProcess

ROOT = Path(__file__).parents[2]
#: Where the virtual environment keeps its commands; the image has them on its PATH too.
BIN = Path(sys.executable).parent
SECRETS = {"JOBPUSH_SECRET": "not so secret", "JOBPUSH_DEMO_SECRET": "not so secret"}
#: Seconds until a command has to be healthy; a busy machine is slow at times.
PATIENCE = 60


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker" / "compose.yml").read_text())
    return loaded


@pytest.fixture(scope="module")
def dockerfile() -> list[tuple[str, str]]:
    """The instructions, each with its arguments, continued lines joined."""
    text = (ROOT / "docker" / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in lines]  # type: ignore[misc]


def last(dockerfile: list[tuple[str, str]], name: str) -> str:
    return [arguments for instruction, arguments in dockerfile if instruction == name][-1]


def interpolated(value: str, environment: dict[str, str]) -> str:
    """``${NAME:-default}`` and ``${NAME:?message}``, as compose reads them; ``$$`` is a dollar."""

    def replace(match: re.Match[str]) -> str:
        name, kind, word = match.groups()
        if name in environment:
            return environment[name]
        assert kind == "-", f"{name} is not set: {word}"
        return word

    return re.sub(r"\$\{(\w+):([-?])([^}]*)\}", replace, value).replace("$$", "$")


def environment_of(service: dict[str, Any], *, redis_url: str, folder: Path) -> dict[str, str]:
    settings = {name: interpolated(value, SECRETS) for name, value in service["environment"].items()}
    settings |= {"JOBPUSH_REDIS_URL": redis_url, "JOBPUSH_DEMO_DIR": str(folder)}
    return {**os.environ, **settings, "HOSTNAME": socket.gethostname(), "PATH": f"{BIN}:{os.environ['PATH']}"}


@contextmanager
def running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[ChildProcess]:
    process = ChildProcess(command, log=log, environment=environment)
    try:
        yield process
        process.stop(signal.SIGTERM, grace=PATIENCE)
        assert process.returncode == 0, log.read_text()
    finally:
        process.kill()


def assert_gets_healthy(check: list[str], process: ChildProcess, environment: dict[str, str], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        done = subprocess.run(check, env=environment, capture_output=True, text=True)
        if done.returncode == 0:
            return
        assert process.is_running, log.read_text()
        assert time.monotonic() < deadline, done.stderr + log.read_text()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# -- syntax ------------------------------------------------------------------------------------------


def test_dockerfile_has_only_instructions_that_docker_knows(dockerfile: list[tuple[str, str]]) -> None:
    known = {"FROM", "ENV", "RUN", "WORKDIR", "COPY", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "CMD"}

    assert {instruction for instruction, _ in dockerfile} <= known
    assert dockerfile[0][0] == "FROM"


def test_image_is_built_in_two_stages_on_a_slim_base(dockerfile: list[tuple[str, str]]) -> None:
    bases = [arguments for instruction, arguments in dockerfile if instruction == "FROM"]

    assert len(bases) == 2
    assert all("-slim" in base for base in bases)


def test_image_does_not_run_as_root(dockerfile: list[tuple[str, str]]) -> None:
    user = last(dockerfile, "USER")

    assert user == "jobpush"
    assert "useradd" in " ".join(arguments for instruction, arguments in dockerfile if instruction == "RUN")
    final_stage = [instruction for instruction, _ in dockerfile]
    assert final_stage.index("USER") < final_stage.index("CMD")


def test_what_the_image_copies_exists_and_is_not_ignored(dockerfile: list[tuple[str, str]]) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    sources = [
        source
        for instruction, arguments in dockerfile
        if instruction == "COPY" and not arguments.startswith("--from")
        for source in arguments.split()[:-1]
    ]

    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored


def test_image_is_built_with_every_file_of_the_packages(dockerfile: list[tuple[str, str]], tmp_path: Path) -> None:
    context, wheels = tmp_path / "context", tmp_path / "wheels"
    for instruction, arguments in dockerfile:
        if instruction == "COPY" and not arguments.startswith("--from"):
            *sources, target = arguments.split()
            for source in sources:
                copy(ROOT / source, context / target / (source if target == "./" else ""))
    assert ("RUN", '/opt/jobpush/bin/pip install ".[demo]"') in dockerfile

    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--wheel-dir", wheels, context], check=True)

    (wheel,) = wheels.iterdir()
    packed = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    ours = [path for name in ("jobpush", "demo_app") for path in (ROOT / name).rglob("*.*")]
    assert packed == {str(path.relative_to(ROOT)) for path in ours if "__pycache__" not in path.parts}


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def test_compose_names_four_services_that_wait_for_a_healthy_redis(compose: dict[str, Any]) -> None:
    services = compose["services"]

    assert set(services) == {"redis", "worker", "gateway", "demo"}
    assert "healthcheck" in services["redis"]
    for name in ("worker", "gateway", "demo"):
        assert services[name]["depends_on"] == {"redis": {"condition": "service_healthy"}}
        assert services[name]["build"] == {"context": "..", "dockerfile": "docker/Dockerfile"}
    assert (ROOT / "docker" / ".." / services["demo"]["build"]["dockerfile"]).is_file()


def test_compose_has_no_secret_of_its_own(compose: dict[str, Any]) -> None:
    environment = compose["services"]["demo"]["environment"]

    for name in SECRETS:
        assert environment[name].startswith(f"${{{name}:?")


def test_worker_and_site_share_their_videos_with_each_other_only(compose: dict[str, Any]) -> None:
    volumes = {name: service.get("volumes") for name, service in compose["services"].items()}

    assert volumes == {"redis": None, "gateway": None, "worker": ["videos:/videos"], "demo": ["videos:/videos"]}
    assert "videos" in compose["volumes"]


# -- the commands themselves -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gateway", "demo"])
def test_command_of_a_web_service_serves_and_gets_healthy(
    name: str, compose: dict[str, Any], dockerfile: list[tuple[str, str]], redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    service, port = compose["services"][name], free_port()
    environment = environment_of(service, redis_url=redis_server.url, folder=tmp_path)
    command = [word.replace("0.0.0.0:8000", f"127.0.0.1:{port}") for word in service["command"]]
    options, _, check = last(dockerfile, "HEALTHCHECK").partition("CMD")
    assert "--interval" in options
    log = tmp_path / "log"

    with running([str(BIN / command[0]), *command[1:]], environment, log) as process:
        assert_gets_healthy(
            [word.replace(":8000", f":{port}") for word in json.loads(check)], process, environment, log
        )


def test_command_of_the_worker_runs_and_gets_healthy(
    compose: dict[str, Any], redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    service = compose["services"]["worker"]
    environment = environment_of(service, redis_url=redis_server.url, folder=tmp_path)
    kind, check = service["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    command, log = service["command"], tmp_path / "log"

    with running([str(BIN / command[0]), *command[1:]], environment, log) as process:
        assert_gets_healthy(["sh", "-c", interpolated(check, {})], process, environment, log)


def test_command_of_the_image_is_a_gateway(dockerfile: list[tuple[str, str]]) -> None:
    command = json.loads(last(dockerfile, "CMD"))

    done = subprocess.run([str(BIN / command[0]), command[1], "--help"], capture_output=True, text=True)

    assert done.returncode == 0
    assert command[2] in done.stdout


def test_command_of_redis_is_one_that_redis_takes(compose: dict[str, Any]) -> None:
    program, *arguments = compose["services"]["redis"]["command"]

    assert program == "redis-server"
    with EmbeddedRedis(arguments=arguments) as server:
        assert server.is_running
