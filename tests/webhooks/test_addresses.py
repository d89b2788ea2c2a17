"""Private addresses are refused unless allowed, and the connection is made to the address that was checked."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import trustme

from jobpush.config import Config
from jobpush.webhooks.addresses import ForbiddenAddress, is_public, resolve
from jobpush.webhooks.endpoints import configured_endpoints
from jobpush.webhooks.post import default_trust, post

from .receiver import Receiver

PUBLIC = [
    *["8.8.8.8", "100.128.0.1", "172.32.0.1", "192.0.1.1", "198.20.0.1", "223.255.255.255", "2a00:1450::1"],
    *["2001:4860:4860::8888", "2606:4700::5efe:8.8.8.8"],
    *["2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::"],
]
INSIDE = [
    *["127.0.0.1", "127.8.8.8", "0.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"],
    *["192.0.0.1", "192.0.0.192", "192.0.0.9", "192.0.0.170", "192.0.2.1", "192.88.99.1", "198.51.100.1"],
    *["203.0.113.1", "100.127.255.255", "172.31.255.255", "0.255.255.255"],
    *["198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"],
    *["::", "::1", "fe80::1", "fe80::1%1", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "ff0e::1", "2001:db8::1"],
    *["::ffff:192.0.0.192", "64:ff9b::c000:c0", "2002:c000:c0::", "2002:a00:1::1", "2001::1", "2001:0:4136:e378::1"],
    *["2001:2::1", "2001:10::1", "2001:20::1", "2001:1::1", "3fff::1", "5f00::1", "100::1", "::ffff:0:8.8.8.8"],
    *["2606:4700::5efe:10.0.0.1", "2606:4700::200:5efe:127.0.0.1", "fe80::5efe:8.8.8.8", "4000::1"],
    *["::ffff:10.0.0.1", "::ffff:127.0.0.1", "::10.0.0.1", "2002:7f00:1::", "64:ff9b::a00:1", "64:ff9b:1::a00:1"],
]


@pytest.mark.parametrize("address", PUBLIC)
def test_address_of_a_host_on_the_internet_is_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize("address", INSIDE)
def test_reserved_address_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "host",
    [
        *["127.0.0.1", "localhost", "LocalHost", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:10.0.0.1]", "[fe80::1]"],
        *["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "0.0", "169.254.169.254", "10.0.0.1"],
    ],
)
def test_url_with_a_private_address_is_refused_unsent(host: str) -> None:
    with Receiver() as receiver:
        with pytest.raises(ForbiddenAddress, match="not public; JOBPUSH_WEBHOOK_ALLOW_PRIVATE"):
            send(f"http://{host}:{receiver.port}/", allow_private=False)

        assert receiver.rest() == []


def test_name_with_a_private_address_among_others_is_refused(resolver: Resolver) -> None:
    resolver.answers = [["8.8.8.8", "10.0.0.1"]]

    with pytest.raises(ForbiddenAddress, match="hook.example is 10.0.0.1"):
        resolve("hook.example", 80, allow_private=False)


def test_private_address_is_called_if_allowed() -> None:
    with Receiver() as receiver:
        assert send(receiver.url) == 200


def test_name_is_resolved_once_so_the_checked_address_is_called(resolver: Resolver) -> None:
    with Receiver() as receiver:
        resolver.answers = [["127.0.0.1"], ["127.0.0.99"]]

        send(f"http://hook.example:{receiver.port}/in")

        assert receiver.next().headers["Host"] == f"hook.example:{receiver.port}"
        assert resolver.asked == ["hook.example"]


def test_next_address_is_called_when_one_does_not_answer(resolver: Resolver) -> None:
    with Receiver() as receiver:
        resolver.answers = [["127.0.0.99", "127.0.0.1"]]

        assert send(f"http://hook.example:{receiver.port}/in") == 200


def test_tls_sends_the_name_and_checks_its_certificate(resolver: Resolver, authority: trustme.CA) -> None:
    asked_for: list[str | None] = []
    tls = server_context(authority, "hook.example")
    tls.sni_callback = lambda connection, name, context: asked_for.append(name)
    with Receiver(tls=tls) as receiver:
        resolver.answers = [["127.0.0.1"]]

        assert send(f"https://hook.example:{receiver.port}/in") == 200

    assert asked_for == ["hook.example"]


def test_certificate_for_another_name_is_not_trusted(resolver: Resolver, authority: trustme.CA) -> None:
    with Receiver(tls=server_context(authority, "other.example")) as receiver:
        resolver.answers = [["127.0.0.1"]]

        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            send(f"https://hook.example:{receiver.port}/in")

        assert receiver.rest() == []


# -- the other side ----------------------------------------------------------------------------------


class Resolver:
    """Stands in front of the system's for one name, whose answers the test gives."""

    def __init__(self) -> None:
        self.answers: list[list[str]] = []
        self.asked: list[str] = []
        self._system = socket.getaddrinfo

    def getaddrinfo(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> list[Any]:
        if host != "hook.example":
            return list(self._system(host, port, *args, **kwargs))
        self.asked.append(host)
        return [info for address in self.answers.pop(0) for info in self._system(address, port, *args, **kwargs)]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver.getaddrinfo)
    return resolver


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[trustme.CA]:
    """One that this process trusts, for the test."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    default_trust.cache_clear()
    yield authority
    default_trust.cache_clear()


def server_context(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def send(url: str, *, allow_private: bool = True) -> int:
    (endpoint,) = configured_endpoints(Config(key="k", secret="s3cret-of-the-tests", webhook_urls=(url,)))
    return post(endpoint, [], b"{}", connect_timeout=5, timeout=10, allow_private=allow_private)
