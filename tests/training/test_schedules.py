"""Each factor against numpy, their product, and the study's schedule."""

import numpy as np
import pytest

from archobj_jax.errors import UserError
from archobj_jax.training.schedules import FACTORS, FactorSchedule

N = np.array([0, 1, 5, 10, 11, 25, 40, 60, 1000], np.float64)
OPTIONS = {
    "base_learning_rate": 0.3,
    "warmup_steps": 10,
    "decay_factor": 0.02,
    "steps_per_decay": 20,
    "steps_per_cycle": 30,
}
AFTER = np.maximum(0, N - 10)
EXPECTED = {
    "constant": np.full(N.shape, 0.3),
    "linear_warmup": np.minimum(1, N / 10),
    "linear_decay": np.maximum(0, 1 - 0.02 * AFTER),
    "rsqrt_decay": 1 / np.sqrt(np.maximum(N, 10)),
    "rsqrt_normalized_decay": np.sqrt(10) / np.sqrt(np.maximum(N, 10)),
    "decay_every": 0.02 ** (N // 20),
    "cosine_decay": 0.5 * (1 + np.cos(np.pi * (AFTER / 30 % 1))),
}


@pytest.mark.parametrize("factor", FACTORS)
def test_a_factor_is_its_formula(factor: str):
    schedule = FactorSchedule(factors=factor, **OPTIONS)
    made = np.array([schedule(n) for n in N.astype(np.int32)])
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, EXPECTED[factor], rtol=1e-5, atol=1e-6)


def test_factors_multiply():
    schedule = FactorSchedule(factors="constant * linear_warmup*rsqrt_decay", **OPTIONS)
    expected = EXPECTED["constant"] * EXPECTED["linear_warmup"] * EXPECTED["rsqrt_decay"]
    np.testing.assert_allclose([schedule(n) for n in N.astype(int)], expected, rtol=1e-5)


@pytest.mark.parametrize("step", [0, 1, 9_999, 10_000, 10_001, 131_072])
def test_the_default_is_the_studys(step: int):
    np.testing.assert_allclose(FactorSchedule()(step), 1 / np.sqrt(max(step, 1e4)), rtol=1e-6)


def test_an_unknown_factor_is_named_with_the_nearest():
    with pytest.raises(UserError, match=r"'rsqrt_decy'.*Did you mean 'rsqrt_decay'"):
        FactorSchedule(factors="constant * rsqrt_decy")
