"""Debian's nginx on the loopback, which terminates TLS in front of gateways."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

from jobpush.processes.child import ChildProcess
from jobpush.processes.ports import free_port
from tests.waiting import is_listening

from .clients import find
from .deployment import wait_until

#: The gateways are also served below this path.
PREFIX = "/push"
#: One process, with all files in its folder. The WebSocket directives follow nginx's documentation.
CONFIGURATION = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
  upstream gateways {{ {servers} }}
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate server.pem;
    ssl_certificate_key server.pem;
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $connection_upgrade;
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Prefix $prefix;
    proxy_read_timeout 1h;
    location / {{
      set $prefix "";
      proxy_pass http://gateways;
    }}
    location {prefix}/ {{
      set $prefix {prefix};
      proxy_pass http://gateways/;
    }}
  }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """The port of a running nginx, and the PEM file of the certificate authority that clients must trust."""

    port: int
    authority: Path


@contextmanager
def nginx(folder: Path, upstream_ports: Sequence[int]) -> Iterator[Nginx]:
    """Run nginx with a certificate for 127.0.0.1 until the end of the block; ``folder`` must be used by it only."""
    running = Nginx(free_port(), folder / "authority.pem")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(running.authority))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    servers = " ".join(f"server 127.0.0.1:{port};" for port in upstream_ports)
    (folder / "nginx.conf").write_text(CONFIGURATION.format(port=running.port, servers=servers, prefix=PREFIX))
    log = folder / "nginx.log"
    process = ChildProcess([find("nginx", package="nginx"), "-p", str(folder), "-c", "nginx.conf"], log=log)
    wait_until(lambda: is_listening(running.port), process, log)
    yield running
    process.kill()
