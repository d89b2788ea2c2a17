"""The table of task end states, in each configuration."""

from __future__ import annotations

from dataclasses import astuple

import pytest
from _pytest.mark import ParameterSet

from tests.effort import thorough

from .configurations import FULL, IS_FULL, MEASURED, OTHERS
from .rows import ROWS, Row
from .stand import Stand


def cases() -> list[ParameterSet]:
    """Return the rows to play, ordered by configuration: all, or those of MEASURED and the base rows of OTHERS."""
    return [
        pytest.param(
            configuration, row, id=f"{configuration}-{row}", marks=thorough if configuration in OTHERS[1:] else ()
        )
        for configuration in (FULL if IS_FULL else [MEASURED, *OTHERS])
        for row in ROWS
        if row.can_happen_on(configuration)
        and (IS_FULL or (row.is_base if configuration in OTHERS else not row.is_rare))
    ]


@pytest.mark.parametrize(("stand", "row"), cases(), indirect=["stand"])
def test_user_sees_the_end(stand: Stand, row: Row) -> None:
    row.play(stand)


def test_default_run_covers_each_value_of_each_axis() -> None:
    assert {value for configuration in [MEASURED, *OTHERS] for value in astuple(configuration)} == {
        value for configuration in FULL for value in astuple(configuration)
    }
