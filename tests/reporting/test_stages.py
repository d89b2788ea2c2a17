"""The stages of a bar, by the weights of the task and by earlier runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobpush.reporting.stages import MAX_STAGES, Stages

ENCODE = {"probing": 2.0, "encoding": 90.0, "thumbnail": 8.0}

names = st.sampled_from(["probing", "encoding", "thumbnail", "upload", ""])
weights = st.none() | st.floats(allow_nan=True, allow_infinity=True)


def run(stages: Stages, durations: Sequence[tuple[str, float]]) -> dict[str, float]:
    """Run stages of these durations; return the durations to keep."""
    now = 0.0
    for name, seconds in durations:
        stages.begin(name, None, now)
        now += seconds
    return stages.recorded_durations(now)


def test_stage_without_weight_takes_the_rest_on_the_first_run() -> None:
    stages = Stages({})

    stages.begin("probing", 10, 0.0)
    stages.begin("encoding", None, 1.0)

    assert (stages.bar.before, stages.bar.weight) == (10, 90)


def test_later_runs_share_the_bar_by_time() -> None:
    stages = Stages(run(Stages({}), list(ENCODE.items())))

    places = []
    for now, name in enumerate(ENCODE):
        stages.begin(name, None, now)
        places.append((stages.bar.before, stages.bar.weight))

    assert places == [pytest.approx(place) for place in [(0, 2), (2, 90), (92, 8)]]


def test_explicit_weight_sets_the_bar_and_not_the_forecast() -> None:
    stages = Stages(ENCODE)

    stages.begin("probing", 50, 0.0)
    stages.begin("encoding", None, 1.0)

    assert (stages.bar.before, stages.bar.end) == (50, pytest.approx(50 + 50 * 90 / 98))
    assert (stages.time.before, stages.time.end) == (pytest.approx(2), pytest.approx(92))


def test_repeated_stage_is_a_stage_of_its_own() -> None:
    durations = run(Stages({}), [("probing", 1), ("encoding", 5), ("probing", 2), ("encoding", 7)])

    assert durations == {"probing": 1, "encoding": 5, "probing #2": 2, "encoding #2": 7}


def test_newest_run_has_the_largest_weight_but_not_all() -> None:
    assert run(Stages({"encoding": 100.0}), [("encoding", 200.0)]) == {"encoding": pytest.approx(130.0)}


def test_stages_missing_from_a_run_are_forgotten() -> None:
    assert run(Stages(ENCODE), [("encoding", 90.0)]) == {"encoding": 90.0}


def test_unexpected_stage_leaves_room_for_the_others() -> None:
    stages = Stages(ENCODE)

    stages.begin("subtitles", None, 0.0)

    assert 0 < stages.bar.weight < 50


def test_too_many_stages_record_no_durations() -> None:
    assert len(run(Stages({}), [(str(number), 1.0) for number in range(MAX_STAGES)])) == MAX_STAGES
    assert run(Stages({}), [(str(number), 1.0) for number in range(MAX_STAGES + 1)]) == {}


def test_unknown_stages_are_possible_only_on_a_first_run_without_weights() -> None:
    first, weighted, learned = Stages({}), Stages({}), Stages(ENCODE)

    first.begin("encoding", None, 0.0)
    weighted.begin("probing", 10, 0.0)
    weighted.begin("encoding", None, 0.0)
    learned.begin("encoding", None, 0.0)

    assert (first.is_open_ended, weighted.is_open_ended, learned.is_open_ended) == (True, False, False)


@given(st.dictionaries(names, st.floats(0, 1e6)), st.lists(st.tuples(names, weights)))
def test_any_order_of_stages_stays_forward_and_within_the_bar(
    learned: Mapping[str, float], begun: list[tuple[str, float | None]]
) -> None:
    stages = Stages(learned)
    reached = 0.0

    for now, (name, weight) in enumerate(begun):
        stages.begin(name, weight, now)
        for span in (stages.bar, stages.time):
            assert math.isfinite(span.end) and 0 <= span.before <= span.end <= 100.0001
        assert stages.bar.before >= reached
        reached = stages.bar.before
