"""The gateways of the tests of the hub serve the tests of the web too."""

from __future__ import annotations

from tests.gateway.conftest import serve, site, store

__all__ = ["serve", "site", "store"]
