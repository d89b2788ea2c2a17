"""A rate that says nothing until it knows, and does not jump."""

from __future__ import annotations

import pytest

from jobpush.worker.rate import RateEstimator


def test_it_is_silent_until_it_knows() -> None:
    estimator = RateEstimator()

    estimator.add(0, now=0.0)
    estimator.add(10, now=0.5)
    assert estimator.rate is None

    estimator.add(20, now=1.0)
    assert estimator.rate == pytest.approx(20.0)


def test_steady_work_has_a_steady_rate_however_it_is_sampled() -> None:
    estimator = RateEstimator()

    for now in (0.0, 0.1, 0.7, 0.8, 2.0, 5.0, 5.1, 60.0):
        estimator.add(now * 30, now)

    assert estimator.rate == pytest.approx(30.0)


def test_one_slow_moment_does_not_make_it_jump() -> None:
    estimator = RateEstimator()
    for tenth in range(101):
        estimator.add(tenth * 10, tenth / 10)

    estimator.add(1_000, now=10.1)

    assert estimator.rate is not None
    assert 95 < estimator.rate < 100


def test_it_follows_a_change_that_lasts() -> None:
    estimator = RateEstimator()
    for second in range(11):
        estimator.add(second * 100, second)
    for second in range(11, 40):
        estimator.add(1_000 + (second - 10) * 10, second)

    assert estimator.rate == pytest.approx(10, rel=0.05)


def test_going_back_begins_anew() -> None:
    estimator = RateEstimator()
    for second in range(5):
        estimator.add(second * 100, second)

    estimator.add(0, now=5.0)

    assert estimator.rate is None


def test_standing_still_has_no_rate() -> None:
    estimator = RateEstimator()
    for second in range(5):
        estimator.add(7, second)

    assert estimator.rate is None
