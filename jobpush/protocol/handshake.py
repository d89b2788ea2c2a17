"""What is checked and made before a connection's protocol begins."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping

from .codes import InvalidVersion, MissingVersion, UnknownApp, UnsupportedVersion
from .settings import ProtocolSettings

#: Versions of the protocol. pusher-js says 7, Pysher 6, and the documentation's own example 5.
SUPPORTED_VERSIONS = range(5, 8)


def new_socket_id() -> str:
    """
    An id for one connection that nobody can guess: it is what channel signatures are made for.

    Source: the SDKs let ``\\A\\d+\\.\\d+\\Z`` pass.
    """
    first, second = divmod(int.from_bytes(secrets.token_bytes(8), "big"), 10**10)
    return f"{first}.{second}"


def check_app(settings: ProtocolSettings, key: str) -> None:
    """
    Make sure that the key of ``/app/<key>`` is ours.

    Raises:
        UnknownApp: If it is not.
    """
    if not hmac.compare_digest(settings.key.encode(), key.encode("utf-8", "replace")):
        raise UnknownApp(f"Application key {key[:40]} does not exist")


def check_version(query: Mapping[str, str]) -> None:
    """
    Make sure that the client's query names a version of the protocol that we speak.

    Raises:
        MissingVersion: If there is no ``protocol``.
        InvalidVersion: If it is no number.
        UnsupportedVersion: If it is another than 5, 6 or 7.
    """
    version = query.get("protocol", "")
    if not version:
        raise MissingVersion
    if not (version.isascii() and version.isdecimal() and len(version) < 10):
        raise InvalidVersion
    if int(version) not in SUPPORTED_VERSIONS:
        raise UnsupportedVersion
