"""Laravel Echo, unmodified, in Node; the scenarios are in laravel_echo.mjs."""

from __future__ import annotations

import pytest

from .clients import scenarios_of
from .conftest import Play

MODULE = "laravel_echo"


@pytest.mark.parametrize("scenario", scenarios_of(MODULE))
def test_laravel_echo(play: Play, node_client: str, scenario: str) -> None:
    play(node_client, scenario)
