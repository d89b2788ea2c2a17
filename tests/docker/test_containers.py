"""
The files for containers: their syntax, and the very commands that they name.

No container engine is needed; addresses of the containers' network are replaced by free ports of the loopback.
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
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import yaml

from jobpush.config import Config
from jobpush.processes.child import ChildProcess
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.processes.ports import free_port
from tests.effort import thorough
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
#: Where the virtual environment keeps its commands; the image has them on its PATH too.
BIN = Path(sys.executable).parent
SECRETS = {
    "JOBPUSH_SECRET": "a made-up secret of the tests",
    "JOBPUSH_DEMO_SECRET": "another made-up secret",
    "JOBPUSH_REDIS_PASSWORD": "p4ssw0rd",
}


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
    """Replace ``${NAME:-default}`` and ``${NAME:?message}`` as compose does; ``$$`` is a dollar."""

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
    return {
        **os.environ,
        **settings,
        "HOSTNAME": socket.gethostname(),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }


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


# -- syntax ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ["hadolint", "docker/Dockerfile"],
        ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker/compose.yml"],
        ["kubernetes-validate", "--strict", "docker/kubernetes.yaml"],
    ],
    ids=lambda command: command[0],
)
def test_docker_files_pass_their_linters(command: list[str]) -> None:
    done = subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr


def test_image_has_slim_bases_and_does_not_run_as_root(dockerfile: list[tuple[str, str]]) -> None:
    bases = [arguments.split()[0] for instruction, arguments in dockerfile if instruction == "FROM"]
    instructions = [instruction for instruction, _ in dockerfile]

    assert all("-slim" in base or base == "jobpush" for base in bases)
    assert last(dockerfile, "USER") == "10001"
    assert instructions.index("USER") < instructions.index("CMD")


def test_dependencies_are_installed_before_the_source_is_copied(dockerfile: list[tuple[str, str]]) -> None:
    assert dockerfile.index(("RUN", "/opt/jobpush/bin/pip install -r requirements.txt")) < dockerfile.index(
        ("COPY", "jobpush jobpush")
    )


def test_files_copied_into_the_image_exist_and_are_not_ignored(dockerfile: list[tuple[str, str]]) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    sources = copied(dockerfile)

    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored


def copied(dockerfile: list[tuple[str, str]]) -> list[str]:
    """Return the files and folders that the image takes from the repository."""
    return [
        source
        for instruction, arguments in dockerfile
        if instruction == "COPY" and not arguments.startswith("--from")
        for source in arguments.split()[:-1]
    ]


@thorough
def test_wheel_of_the_image_has_every_file_of_the_package(dockerfile: list[tuple[str, str]], tmp_path: Path) -> None:
    context, wheels = tmp_path / "context", tmp_path / "wheels"
    for source in copied(dockerfile):
        copy(ROOT / source, context / source)
    assert ("RUN", "/opt/jobpush/bin/pip install --no-deps .") in dockerfile

    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--wheel-dir", wheels, context], check=True)

    (wheel,) = wheels.iterdir()
    packed = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / "jobpush").rglob("*.*") if "__pycache__" not in path.parts}
    assert packed == ours


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def test_services_are_hardened_and_wait_for_redis(compose: dict[str, Any]) -> None:
    services = compose["services"]

    assert set(services) == {"redis", "worker", "gateway1", "gateway2", "site", "proxy"}
    assert "healthcheck" in services["redis"]
    for name, service in services.items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        if name not in ("redis", "proxy"):
            assert service["depends_on"] == {"redis": {"condition": "service_healthy"}}


def test_only_the_proxy_has_a_port_and_it_is_on_loopback(compose: dict[str, Any]) -> None:
    ports = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}

    assert ports == {"proxy": ["127.0.0.1:8443:8443"]}


def test_compose_has_no_secret_of_its_own(compose: dict[str, Any]) -> None:
    text = (ROOT / "docker" / "compose.yml").read_text()

    for name in SECRETS:
        assert f"${{{name}:?" in text
        assert f"${{{name}:-" not in text
    assert compose["services"]["redis"]["environment"].keys() == {"REDISCLI_AUTH"}


def test_pod_drains_before_it_is_killed() -> None:
    documents = {
        (one["kind"], one["metadata"]["name"]): one
        for one in yaml.safe_load_all((ROOT / "docker" / "kubernetes.yaml").read_text())
    }
    pod = documents["Deployment", "jobpush-gateway"]["spec"]["template"]["spec"]
    settings = documents["ConfigMap", "jobpush"]["data"]
    pause = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])

    # gunicorn_conf allows 10 seconds for requests under way, beside the drain.
    assert pod["terminationGracePeriodSeconds"] > pause + 10 + float(settings["JOBPUSH_DRAIN_TIMEOUT"])
    known = {f"JOBPUSH_{item.name.upper()}" for item in fields(Config)}
    assert settings.keys() <= known


# -- the commands themselves -------------------------------------------------------------------------


def web_command(service: dict[str, Any], port: int) -> list[str]:
    """Return the command of a service with its address replaced by a port of the loopback."""
    command = [word.replace("0.0.0.0:8000", f"127.0.0.1:{port}") for word in service["command"]]
    return [str(BIN / command[0]), *command[1:]]


def test_site_and_gateway_become_healthy_and_reachable_through_the_proxy(
    compose: dict[str, Any], dockerfile: list[tuple[str, str]], redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    services = compose["services"]
    ports = {name: free_port() for name in ("site", "gateway1", "proxy")}
    options, _, check = last(dockerfile, "HEALTHCHECK").partition("CMD")
    assert "--interval" in options
    caddy = {
        **os.environ,
        "ADDRESS": f"https://localhost:{ports['proxy']}",
        "SITE": f"127.0.0.1:{ports['site']}",
        "GATEWAYS": f"127.0.0.1:{ports['gateway1']}",
        "XDG_DATA_HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
    }
    proxy = ["caddy", "run", "--adapter", "caddyfile", "--config", str(ROOT / "docker" / "compose.Caddyfile")]

    with ExitStack() as stack:
        for name in ("site", "gateway1"):
            environment = environment_of(services[name], redis_url=redis_server.url, folder=tmp_path)
            log = tmp_path / f"{name}.log"
            process = stack.enter_context(running(web_command(services[name], ports[name]), environment, log))
            words = [word.replace(":8000", f":{ports[name]}") for word in json.loads(check)]
            assert_gets_healthy(words, process, environment, log)
        process = stack.enter_context(running(proxy, caddy, tmp_path / "proxy.log"))
        for path, status in (("/jobpush/health/ready", 200), ("/apps/1/channels", 401), ("/app/demo", 400)):
            script = (
                "import ssl, urllib.request as r, urllib.error as e, sys\n"
                "context = ssl._create_unverified_context()\n"
                f"url = 'https://localhost:{ports['proxy']}{path}'\n"
                "try: status = r.urlopen(url, timeout=5, context=context).status\n"
                "except e.HTTPError as error: status = error.code\n"
                f"sys.exit(status != {status} and f'{{status}} for {path}')"
            )
            assert_gets_healthy([sys.executable, "-c", script], process, caddy, tmp_path / "proxy.log")


@thorough
def test_worker_command_becomes_healthy(compose: dict[str, Any], redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    service = compose["services"]["worker"]
    environment = environment_of(service, redis_url=redis_server.url, folder=tmp_path)
    kind, check = service["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    command, log = service["command"], tmp_path / "log"

    with running([str(BIN / command[0]), *command[1:]], environment, log) as process:
        assert_gets_healthy(["sh", "-c", interpolated(check, {})], process, environment, log)


def test_default_command_of_the_image_is_a_gateway(dockerfile: list[tuple[str, str]]) -> None:
    command = next(json.loads(arguments) for instruction, arguments in dockerfile if instruction == "CMD")

    done = subprocess.run([str(BIN / command[0]), command[1], "--help"], capture_output=True, text=True)

    assert done.returncode == 0
    assert command[2] in done.stdout


def test_command_of_redis_starts_it_with_a_password(compose: dict[str, Any]) -> None:
    program, *arguments = [interpolated(word, SECRETS) for word in compose["services"]["redis"]["command"]]

    assert program == "redis-server"
    assert arguments[:2] == ["--requirepass", SECRETS["JOBPUSH_REDIS_PASSWORD"]]
    with EmbeddedRedis(arguments=arguments[2:]) as server:
        assert server.is_running
