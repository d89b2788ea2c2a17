"""A primary, a replica and Sentinels on the loopback interface."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis

from jobpush.processes import embedded
from jobpush.processes.child import ChildProcess
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.processes.ports import free_port
from tests.waiting import wait_until

#: Name of the primary.
NAME = "main"
#: Milliseconds until a Sentinel counts a silent server as down.
_DOWN_AFTER = 700


class SentinelServers:
    """
    Two data servers and three Sentinels that agree on a primary.

    Args:
        password: Of the data servers; empty: none.
        sentinel_password: Of the Sentinels.
        tls: Certificate, key and authority as files: everything uses TLS then.
    """

    def __init__(
        self, *, password: str = "", sentinel_password: str = "", tls: tuple[Path, Path, Path] | None = None
    ) -> None:
        self._password, self._sentinel_password, self._tls = password, sentinel_password, tls
        self._stack = ExitStack()
        self.sentinels: list[int] = []
        #: By the port that clients use.
        self.servers: dict[int, EmbeddedRedis] = {}

    def __enter__(self) -> SentinelServers:
        with self._stack:
            first, second = self._start_server(), self._start_server()
            self.connect(second).replicaof("127.0.0.1", first)
            wait_until(lambda: self.connect(second).info("replication")["master_link_status"] == "up")
            folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
            for number in range(3):
                self._start_sentinel(folder / str(number), first)
            wait_until(lambda: all(self._knows_all(port) for port in self.sentinels))
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """Of the primary, for jobpush; without credentials and TLS options."""
        return self.url_of(self.sentinels)

    def url_of(self, sentinels: Sequence[int], name: str = NAME) -> str:
        """The same with some of the Sentinels."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in sentinels)
        return f"{'rediss' if self._tls else 'redis'}+sentinel://{hosts}/{name}/0"

    @property
    def primary(self) -> int:
        """Port of the server that the Sentinels agree on."""
        found: Any = {self._ask(port).sentinel_get_master_addr_by_name(NAME)[1] for port in self.sentinels}
        return int(found.pop()) if len(found) == 1 else 0

    def kill_primary(self) -> int:
        """Kill the primary; return its port."""
        port = self.primary
        self.servers[port].kill()
        return port

    def replicate_as(self, user: str) -> None:
        """Let replicas sign in as a user of their own, for :meth:`stop_replication`."""
        for port in self.servers:
            client = self.connect(port)
            client.acl_setuser(user, enabled=True, nopass=True, keys=["*"], channels=["*"], commands=["+@all"])
            client.config_set("masteruser", user)
            client.config_set("masterauth", "any")

    def stop_replication(self, user: str) -> None:
        """Refuse the replica, so that it misses what the primary accepts from now on."""
        client = self.connect(self.primary)
        client.acl_setuser(user, enabled=False)
        client.execute_command("CLIENT", "KILL", "TYPE", "replica")

    def fail_over(self) -> None:
        """Exchange primary and replica in good order; return when the old primary, too, follows the new one."""
        before = self.primary
        self._ask(self.sentinels[0]).execute_command("SENTINEL", "FAILOVER", NAME)
        self.wait_for_primary_other_than(before)
        wait_until(lambda: self.connect(before).info("replication").get("master_link_status") == "up")

    def wait_for_primary_other_than(self, port: int) -> None:
        """Wait until all Sentinels name another primary, which accepts writes."""
        wait_until(lambda: self.primary not in (0, port) and self.connect(self.primary).role()[0] == b"master")

    def add_sentinel_of(self, port: int) -> int:
        """Start a Sentinel that takes one server for the primary and that no other Sentinel knows; return its port."""
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self._start_sentinel(folder / "lonely", port)
        stale = self.sentinels.pop()
        wait_until(lambda: self._ask(stale).ping())
        return stale

    def connect(self, port: int) -> redis.Redis:
        """Return a client of a data server."""
        return redis.Redis(port=port, password=self._password or None, protocol=2, **self._tls_of_clients)

    def _ask(self, port: int) -> Any:
        return redis.Redis(port=port, password=self._sentinel_password or None, protocol=2, **self._tls_of_clients)

    @property
    def _tls_of_clients(self) -> dict[str, Any]:
        if self._tls is None:
            return {}
        certificate, key, authority = map(str, self._tls)
        return {"ssl": True, "ssl_ca_certs": authority, "ssl_certfile": certificate, "ssl_keyfile": key}

    def _options(self, port: int) -> list[str]:
        """Of a server or Sentinel: it listens with TLS only, if there is TLS."""
        if self._tls is None:
            return []
        certificate, key, authority = map(str, self._tls)
        files = ["--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", authority]
        return ["--tls-port", str(port), "--tls-replication", "yes", *files]

    def _start_server(self) -> int:
        tls_port = free_port()
        server = EmbeddedRedis(port=0, arguments=[*self._options(tls_port), "--repl-diskless-sync-delay", "0"])
        self._stack.enter_context(server)
        port = tls_port if self._tls else redis.ConnectionPool.from_url(server.url).connection_kwargs["port"]
        self.servers[port] = server
        if self._password:
            plain = redis.Redis.from_url(server.url)
            plain.config_set("masterauth", self._password)
            plain.config_set("requirepass", self._password)
        return port

    def _start_sentinel(self, folder: Path, primary: int) -> None:
        folder.mkdir()
        port = free_port()
        options = [option.removeprefix("--") for option in self._options(port)]
        pairs = zip(options[::2], options[1::2], strict=True)
        lines = [f"port {0 if self._tls else port}", "bind 127.0.0.1", f"dir {folder}"]
        lines += [f"{name} {value}" for name, value in pairs]
        lines.append(f"sentinel monitor {NAME} 127.0.0.1 {primary} 2")
        lines += [f"sentinel down-after-milliseconds {NAME} {_DOWN_AFTER}", f"sentinel failover-timeout {NAME} 3000"]
        if self._password:
            lines.append(f"sentinel auth-pass {NAME} {self._password}")
        if self._sentinel_password:
            lines += [f"requirepass {self._sentinel_password}", f"sentinel sentinel-pass {self._sentinel_password}"]
        file = folder / "sentinel.conf"
        file.write_text("\n".join(lines) + "\n")
        command = [embedded.find_redis_server(), str(file), "--sentinel"]
        self._stack.callback(ChildProcess(command, log=folder / "log").kill)
        self.sentinels.append(port)

    def _knows_all(self, port: int) -> bool:
        state = self._ask(port).sentinel_master(NAME)
        return state["num-other-sentinels"] == 2 and state["num-slaves"] == 1
