import math

import numpy as np
import pytest

from archobj_jax.evaluation.statistics import Bootstrap, Terms, estimate, interval


def of_rights(rights):
    """Terms of rights [P, n]."""
    rights = np.asarray(rights, np.float64)
    return Terms(rights, np.ones_like(rights))


def interval_of(terms, *, name="x", over_prompts="mean", bootstrap=Bootstrap()):
    draws = bootstrap.draws({"metric": terms}, name=name, over_prompts=over_prompts)
    return interval(draws["metric"])


def test_the_median_over_prompts_is_the_middle_one():
    """Prompts with 1/4, 2/4, 4/4 right: the median is 1/2, the mean 7/12."""
    terms = of_rights([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]])
    assert estimate(terms, "median") == 0.5
    assert estimate(terms, "mean") == pytest.approx(7 / 12)


def test_of_an_even_number_of_prompts_the_median_is_between_the_middle_two():
    assert estimate(of_rights([[0, 0], [1, 0], [1, 1], [1, 1]]), "median") == 0.75


def test_examples_that_a_prompt_lacks_do_not_count_for_it():
    terms = Terms(np.array([[1.0, 0, 0], [0, 0, 1]]), np.array([[1.0, 0, 1], [0, 1, 1]]))
    assert estimate(terms, "mean") == 0.5


def test_an_interval_of_a_share_is_that_of_the_binomial_distribution():
    """Of 2,000 examples 30% are right: 0.3 ± 1.96 sqrt(0.3 x 0.7 / 2000), by the normal limit."""
    low, high = interval_of(of_rights([np.arange(2000) % 10 < 3]), bootstrap=Bootstrap(0, 4000))
    half = 1.96 * math.sqrt(0.3 * 0.7 / 2000)
    assert (low, high) == (
        pytest.approx(0.3 - half, abs=0.002),
        pytest.approx(0.3 + half, abs=0.002),
    )


def test_an_interval_of_a_ratio_is_that_of_the_delta_method():
    """Cochran 1977, 6.4: var(r) = mean((nats - r tokens)^2) / (n mean(tokens)^2)."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(10, 400, size=3000).astype(float)
    nats = tokens * rng.normal(3, 1, size=3000)
    ratio = nats.sum() / tokens.sum()
    deviation = math.sqrt(np.mean((nats - ratio * tokens) ** 2) / 3000) / tokens.mean()
    low, high = interval_of(Terms(nats[None], tokens[None]), bootstrap=Bootstrap(0, 4000))
    assert low == pytest.approx(ratio - 1.96 * deviation, abs=0.1 * deviation)
    assert high == pytest.approx(ratio + 1.96 * deviation, abs=0.1 * deviation)


def test_a_prompt_of_which_nothing_was_drawn_is_left_out():
    """The second prompt has one of three examples, its ratio is always 1; the first's always 0."""
    terms = Terms(np.array([[0.0, 0, 0], [1, 0, 0]]), np.array([[1.0, 1, 1], [1, 0, 0]]))
    draws = Bootstrap().draws({"metric": terms}, name="x", over_prompts="mean")["metric"]
    # NaN where only the second prompt was drawn, and none of its examples: 1/4 x (2/3)^3.
    assert np.isnan(draws).mean() == pytest.approx(2 / 27, abs=0.03)
    assert set(draws[~np.isnan(draws)]) == {0.0, 0.5, 1.0}
    assert interval(draws) == (0.0, 1.0)


def test_examples_are_drawn_alike_for_all_metrics_and_prompts():
    rights = np.random.default_rng(0).random((1, 50)) < 0.5
    terms = {"a": of_rights(rights), "wrong": of_rights(~rights)}
    draws = Bootstrap().draws(terms, name="x")
    np.testing.assert_allclose(draws["a"] + draws["wrong"], 1)
    both = np.concatenate([rights, rights])
    twice = Bootstrap().draws({"a": of_rights(both)}, name="x", over_prompts="mean")
    np.testing.assert_allclose(twice["a"], draws["a"])


def test_the_stream_is_keyed_by_seed_and_name():
    terms = of_rights([np.arange(40) % 3 == 0])
    assert interval_of(terms) == interval_of(terms)
    drawn = [
        tuple(bootstrap.draws({"a": terms}, name=name)["a"])
        for bootstrap, name in [(Bootstrap(0), "x"), (Bootstrap(1), "x"), (Bootstrap(0), "y")]
    ]
    assert len(set(drawn)) == 3


def test_many_examples_are_drawn_in_parts(monkeypatch):
    terms = of_rights([np.arange(100) % 4 == 0])
    monkeypatch.setattr("archobj_jax.evaluation.statistics._CELLS", 700)
    draws = Bootstrap(resamples=20).draws({"a": terms}, name="x")["a"]
    assert draws.shape == (20,)
    assert draws.mean() == pytest.approx(0.25, abs=0.05)
    assert len(set(draws)) > 5


def coverage(sample, *, truth, over_prompts="mean", times=300):
    """How often the interval of terms that `sample` draws contains the truth."""
    hits = 0
    for time in range(times):
        terms = of_rights(sample(np.random.default_rng(time)))
        low, high = interval_of(
            terms, name=str(time), over_prompts=over_prompts, bootstrap=Bootstrap(0, 300)
        )
        hits += low <= truth <= high
    return hits / times


def test_intervals_contain_the_truth_nineteen_times_in_twenty():
    """300 times: a share of 0.95 varies by 0.0126, so within four of that."""
    assert coverage(lambda rng: rng.random((1, 200)) < 0.7, truth=0.7) == pytest.approx(
        0.95, abs=0.05
    )


def test_with_prompts_that_differ_intervals_must_be_over_prompts_too():
    """Each prompt has an accuracy of its own, uniform in 0.4 to 0.8."""

    def sample(rng):
        return rng.random((12, 200)) < rng.uniform(0.4, 0.8, size=(12, 1))

    assert coverage(sample, truth=0.6) > 0.9
    assert coverage(sample, truth=0.6, over_prompts="median") > 0.9
    # Of the examples alone: a prompt's accuracy is taken as known.
    pooled = coverage(lambda rng: sample(rng).mean(axis=0, keepdims=True), truth=0.6)
    assert pooled < 0.7
