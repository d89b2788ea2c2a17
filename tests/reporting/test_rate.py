"""A rate that is unknown until it is reliable, and does not jump."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobpush.reporting.rate import RateEstimator


def test_rate_is_unknown_at_the_start() -> None:
    estimator = RateEstimator()

    estimator.add(0, now=0.0)
    estimator.add(10, now=0.5)
    assert estimator.rate is None

    estimator.add(20, now=1.0)
    assert estimator.rate == pytest.approx(20.0)


def test_steady_work_has_a_steady_rate_for_any_sampling() -> None:
    estimator = RateEstimator()

    for now in (0.0, 0.1, 0.7, 0.8, 2.0, 5.0, 5.1, 60.0):
        estimator.add(now * 30, now)

    assert estimator.rate == pytest.approx(30.0)


def test_one_slow_sample_does_not_make_the_rate_jump() -> None:
    estimator = RateEstimator()
    for tenth in range(101):
        estimator.add(tenth * 10, tenth / 10)

    estimator.add(1_000, now=10.1)

    assert estimator.rate is not None
    assert 95 < estimator.rate < 100


def test_rate_follows_a_lasting_change() -> None:
    estimator = RateEstimator()
    for second in range(11):
        estimator.add(second * 100, second)
    for second in range(11, 40):
        estimator.add(1_000 + (second - 10) * 10, second)

    assert estimator.rate == pytest.approx(10, rel=0.05)


@given(rate=st.floats(0.01, 1e6), pauses=st.lists(st.floats(0.1, 60), min_size=3, max_size=50))
def test_constant_work_is_predicted_exactly_for_any_sampling(rate: float, pauses: list[float]) -> None:
    estimator = RateEstimator()
    now = 100.0
    estimator.add(0, now)
    for pause in pauses:
        now += pause
        estimator.add((now - 100.0) * rate, now)

        if estimator.rate is not None:
            assert estimator.rate == pytest.approx(rate, rel=1e-6)
            left = estimator.seconds_left(rate)
            assert left is None or left == pytest.approx(1.0, rel=1e-6)


@given(st.lists(st.tuples(st.floats(0.1, 60), st.floats(0, 1e6)), min_size=3, max_size=50))
def test_rate_at_most_doubles_or_halves_between_samples(
    samples: list[tuple[float, float]],
) -> None:
    estimator = RateEstimator()
    now = amount = 0.0
    before = None
    for pause, done in samples:
        now, amount = now + pause, amount + done
        estimator.add(amount, now)

        if before is not None and estimator.rate is not None:
            assert before / 2 - 1e-9 <= estimator.rate <= before * 2 + 1e-9
        before = estimator.rate


@given(st.integers(0, 1_000))
def test_forecast_of_varying_items_is_within_half_after_a_fifth(seed: int) -> None:
    seconds = random.Random(seed).lognormvariate

    errors = outlook_errors(lambda done: seconds(0, 0.5), total=200, after=0.2)

    assert sorted(errors)[len(errors) // 2] < math.log(1.5)


def test_forecast_of_bursts_uses_their_average() -> None:
    errors = outlook_errors(lambda done: 3.0 if done % 100 == 0 else 0.002, total=2_000, after=0.2)

    assert sorted(errors)[len(errors) // 2] < math.log(1.5)


def test_forecast_of_slowing_work_is_off_by_less_than_a_factor_of_two() -> None:
    errors = outlook_errors(lambda done: 0.02 + 0.02 * done / 2_000, total=2_000, after=0.2)

    assert max(errors) < math.log(2)


def test_pause_does_not_spoil_the_rate() -> None:
    errors = outlook_errors(lambda done: 20.0 if done == 500 else 0.03, total=2_000, after=0.6)

    assert sorted(errors)[len(errors) // 2] < math.log(1.5)


def test_forecast_reaches_at_most_sixty_times_the_observed_time() -> None:
    estimator = RateEstimator()
    for second in range(31):
        estimator.add(second, second)

    assert estimator.seconds_left(3_600) is None
    assert estimator.seconds_left(1_800) == pytest.approx(1_800)


def outlook_errors(seconds_of: Callable[[int], float], *, total: int, after: float) -> list[float]:
    """
    How far off the forecasts of a piece of work are, as logarithms of the factor, from a part of it on.

    Args:
        seconds_of: How long each item takes.
        total: Items.
        after: Part of the items, 0 to 1, before which nothing is expected.
    """
    samples = list(sampled(seconds_of, total))
    end = samples[-1][0]
    estimator = RateEstimator()
    errors = []
    for now, done in samples:
        estimator.add(done, now)
        left = estimator.seconds_left(total - done)
        if left is not None and after * total <= done < 0.95 * total:
            errors.append(abs(math.log(left / (end - now))))
    return errors


def sampled(seconds_of: Callable[[int], float], total: int) -> Iterator[tuple[float, int]]:
    """What the publisher would see: at most ten samples a second."""
    now, told_at = 0.0, 0.0
    yield 0.0, 0
    for done in range(1, total + 1):
        now += seconds_of(done)
        if now - told_at >= 0.1 or done == total:
            told_at = now
            yield now, done


def test_decreasing_amount_restarts_the_rate() -> None:
    estimator = RateEstimator()
    for second in range(5):
        estimator.add(second * 100, second)

    estimator.add(0, now=5.0)

    assert estimator.rate is None


def test_stalled_work_has_no_rate() -> None:
    estimator = RateEstimator()
    for second in range(5):
        estimator.add(7, second)

    assert estimator.rate is None
