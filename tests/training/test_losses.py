"""Losses in closed form."""

import jax.numpy as jnp
import numpy as np
import pytest

from archobj_jax.errors import UserError
from archobj_jax.training.losses import Loss

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(2, 3, 7)).astype(np.float32) * 3
TARGETS = RNG.integers(0, 7, (2, 3)).astype(np.int32)
LOG_P = LOGITS - np.log(np.exp(LOGITS).sum(-1, keepdims=True))


def losses(loss: Loss, logits=LOGITS, targets=TARGETS):
    return loss.token_losses(jnp.asarray(logits), jnp.asarray(targets))


def test_cross_entropy_is_the_targets_surprise():
    made = losses(Loss(z_loss=0.0))
    expected = -np.take_along_axis(LOG_P, TARGETS[..., None], -1)[..., 0]
    np.testing.assert_allclose(made.total, expected, rtol=1e-5)
    np.testing.assert_array_equal(made.z_loss, 0.0)
    np.testing.assert_array_equal(made.correct, LOGITS.argmax(-1) == TARGETS)


def test_z_loss_is_the_squared_log_of_the_normaliser():
    log_z = np.log(np.exp(LOGITS).sum(-1))
    made, without = losses(Loss(z_loss=0.01)), losses(Loss(z_loss=0.0))
    np.testing.assert_allclose(made.z_loss, 0.01 * log_z**2, rtol=1e-5)
    np.testing.assert_allclose(made.total - made.z_loss, without.total, rtol=1e-4)


@pytest.mark.parametrize("smoothing", [0.1, 0.4])
def test_label_smoothing_is_the_divergence_from_the_smoothed_one_hot(smoothing: float):
    low = smoothing / 6
    q = np.where(np.arange(7) == TARGETS[..., None], 1 - smoothing, low)
    made = losses(Loss(z_loss=0.0, label_smoothing=smoothing))
    np.testing.assert_allclose(made.total, (q * (np.log(q) - LOG_P)).sum(-1), rtol=1e-4)
    perfect = losses(Loss(z_loss=0.0, label_smoothing=smoothing), logits=np.log(q).astype("f4"))
    np.testing.assert_allclose(perfect.total, 0.0, atol=1e-6)


def test_losses_of_bfloat16_logits_are_float32():
    made = losses(Loss(), logits=jnp.asarray(LOGITS, jnp.bfloat16))
    assert made.total.dtype == jnp.float32
    assert made.z_loss.dtype == jnp.float32


def test_large_logits_are_finite():
    made = losses(Loss(), logits=LOGITS * 1e4)
    assert np.isfinite(made.total).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalization": "token"}, "must be one of sum, tokens"),
        ({"label_smoothing": 1.0}, r"must be in \[0, 1\)"),
    ],
)
def test_a_field_out_of_range_is_named(changes: dict, message: str):
    with pytest.raises(UserError, match=message):
        Loss(**changes)
