"""Checks before a connection's protocol begins."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping

from ..config import Config
from .codes import InvalidVersion, MissingVersion, UnknownApp, UnsupportedVersion

#: Versions of the protocol. pusher-js sends 7, Pysher 6, and the documentation's example 5.
SUPPORTED_VERSIONS = range(5, 8)


def new_socket_id() -> str:
    """
    Return an unguessable id for one connection; channel signatures contain it.

    Source: the SDKs accept ``\\A\\d+\\.\\d+\\Z``.
    """
    first, second = divmod(int.from_bytes(secrets.token_bytes(8), "big"), 10**10)
    return f"{first}.{second}"


def check_app(config: Config, key: str) -> None:
    """
    Check the key of ``/app/<key>``.

    Raises:
        UnknownApp: If it belongs to another application.
    """
    if not hmac.compare_digest(config.key.encode(), key.encode("utf-8", "replace")):
        raise UnknownApp(f"Application key {key[:40]} does not exist")


def check_version(query: Mapping[str, str]) -> None:
    """
    Check that the client's query names a supported version of the protocol.

    Raises:
        MissingVersion: If there is no ``protocol``.
        InvalidVersion: If it is not a number.
        UnsupportedVersion: If it is another than 5, 6 or 7.
    """
    version = query.get("protocol", "")
    if not version:
        raise MissingVersion
    if not (version.isascii() and version.isdecimal() and len(version) < 10):
        raise InvalidVersion
    if int(version) not in SUPPORTED_VERSIONS:
        raise UnsupportedVersion
