"""Intervals of averages and of differences, over seeds, examples and prompts."""

import numpy as np
import pytest
from scipy import stats

from archobj_jax.study.report.scores import Score, difference, over_seeds
from tests.study.synthetic import score


def test_of_one_seed_the_interval_is_the_bootstraps():
    draws = np.linspace(0, 100, 1001)[None]
    assert over_seeds([50.0], draws) == pytest.approx((2.5, 97.5))


def test_where_too_few_draws_lie_beyond_a_percentile_it_is_a_normals():
    draws = np.random.default_rng(0).normal(50, 2, size=(1, 1000))
    low, high = over_seeds([50.0], draws, confidence=0.999)
    assert (low, high) == pytest.approx((50 - 3.29 * 2, 50 + 3.29 * 2), abs=0.4)


def test_of_several_seeds_without_noise_of_examples_it_is_students():
    values = [50.0, 52.0, 57.0]
    low, high = over_seeds(values, np.tile(np.array(values)[:, None], 10))
    expected = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (low, high) == pytest.approx(expected)


def test_of_seeds_that_are_alike_it_is_that_of_the_examples():
    rng = np.random.default_rng(0)
    draws = rng.normal(50, 2, size=(1, 20_000))
    low, high = over_seeds([50.0, 50.0], np.concatenate([draws, draws]))
    assert (low, high) == pytest.approx((50 - 1.96 * 2, 50 + 1.96 * 2), abs=0.1)


def test_an_interval_covers_the_truth_as_often_as_it_says():
    """Three seeds and examples that all share, both drawn from known normals: 95% within 1.5."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(1000):
        examples = rng.normal(0, 1)
        values = examples + rng.normal(0, 1, size=3)
        low, high = over_seeds(list(values), values[:, None] + rng.normal(0, 1, size=(1, 400)))
        covered += low <= 0 <= high
    assert covered / 1000 == pytest.approx(0.95, abs=0.025)


def test_a_difference_inside_its_interval_is_never_better():
    wide, narrow = [[40, 60] * 50], [[54.9, 55.1] * 50]
    assert difference(score([55], narrow), score([50], [[50] * 100])).verdict == "higher"
    assert difference(score([50], wide), score([49], [[49] * 100])).verdict == "not told apart"
    assert difference(score([50], [[50] * 100]), score([55], narrow)).verdict == "lower"


def test_a_difference_is_of_the_seeds_that_both_have():
    a = Score({0: 50.0, 1: 60.0}, np.array([[50.0] * 4, [60.0] * 4]))
    b = Score({1: 55.0, 2: 10.0}, np.array([[55.0] * 4, [10.0] * 4]))
    found = difference(a, b)
    assert (found.value, found.seeds) == (5.0, 1)
    assert difference(a, b.of([2])) is None
