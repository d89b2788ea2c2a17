"""The table of endings, in the worlds that a task may live in."""

from __future__ import annotations

import itertools
from dataclasses import astuple

import pytest
from _pytest.mark import ParameterSet

from .configurations import FULL, IS_FULL, MEASURED, PAIRWISE
from .rows import ROWS, Row
from .stand import Stand


def cases() -> list[ParameterSet]:
    """What is tried: everything, or what is enough for each day; configuration by configuration."""
    configurations = FULL if IS_FULL else list(dict.fromkeys([*MEASURED, *PAIRWISE]))
    return [
        pytest.param(configuration, row, id=f"{configuration}-{row}")
        for configuration in configurations
        for row in ROWS
        if row.can_happen_on(configuration)
        and (IS_FULL or row.is_base or (configuration in MEASURED and not row.is_rare))
    ]


@pytest.mark.parametrize(("stand", "row"), cases(), indirect=["stand"])
def test_the_user_sees_the_end(stand: Stand, row: Row) -> None:
    row.play(stand)


def test_each_day_every_two_values_meet() -> None:
    met = {pair for configuration in PAIRWISE for pair in itertools.combinations(astuple(configuration), 2)}
    wanted = {pair for configuration in FULL for pair in itertools.combinations(astuple(configuration), 2)}

    assert met == wanted
