"""Pusher's SDK for Node servers, unmodified; the scenarios are in node_sdk.mjs."""

from __future__ import annotations

import pytest

from .clients import scenarios_of
from .conftest import Play

MODULE = "node_sdk"


@pytest.mark.parametrize("scenario", scenarios_of(MODULE))
def test_node_sdk(play: Play, node_client: str, scenario: str) -> None:
    play(node_client, scenario)
