"""Adafactor's options in closed form; stacked parameters are separate matrices to all of them.

That Adafactor is T5X's, factored and not, is tested against T5X's numbers in test_parity.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from archobj_jax.training.optimizers import Adafactor, AdamW, Muon, Optimizer

FACTORED = Adafactor(min_dim_size_to_factor=4)


def normal(*shape: int) -> np.ndarray:
    """Standard normal, the same at each call."""
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def two_updates(optimizer: Optimizer, params, gradients, stacked, rate: float = 0.1):
    transform = optimizer.build(optax.constant_schedule(rate), stacked)
    state = transform.init(params)
    made = []
    for scale in (1.0, 0.5):
        updates, state = transform.update(
            jax.tree.map(lambda g, scale=scale: g * scale, gradients), state, params
        )
        params = optax.apply_updates(params, updates)
        made.append(updates)
    return made, state


@pytest.mark.parametrize(
    "optimizer",
    [FACTORED, Adafactor(), Muon(clip_global_norm=None), AdamW(clip_global_norm=None)],
    ids=["factored", "adafactor", "muon", "adamw"],
)
def test_stacked_layers_are_updated_as_separate_matrices(optimizer: Optimizer):
    shape = (3, 6, 5)
    # Layers of very different size, which statistics over all of them would mix up.
    scale = np.array([0.01, 1.0, 100.0])[:, None, None]
    param, gradient = (jnp.asarray(x * scale, jnp.float32) for x in normal(2, *shape))
    together, _ = two_updates(optimizer, {"w": param}, {"w": gradient}, {"w": True})
    names = ["a", "b", "c"]
    apart, _ = two_updates(
        optimizer,
        dict(zip(names, param, strict=True)),
        dict(zip(names, gradient, strict=True)),
        dict.fromkeys(names, False),
    )
    for both, each in zip(together, apart, strict=True):
        for layer, name in enumerate(names):
            np.testing.assert_allclose(both["w"][layer], each[name], rtol=2e-4, atol=1e-6)


def rms(x) -> float:
    return float(np.sqrt(np.mean(np.square(x))))


def test_adafactor_with_momentum_and_weight_decay_is_its_formula():
    param, gradient = normal(2, 4, 3)
    optimizer = Adafactor(beta1=0.9, weight_decay_rate=0.01)
    (first, second), state = two_updates(optimizer, {"w": param}, {"w": gradient}, {"w": False})
    v = gradient**2 + 1e-30  # the first decay is 1 - 1^-0.8 = 0
    step = gradient / np.sqrt(v)
    step = 0.1 * rms(param) * step / max(1, rms(step))
    m = 0.1 * step
    np.testing.assert_allclose(first["w"], -(m + 0.1 * 0.01 * param), rtol=1e-5)
    param = param + np.asarray(first["w"])
    decay = 1 - 2**-0.8
    v = decay * v + (1 - decay) * ((0.5 * gradient) ** 2 + 1e-30)
    step = 0.5 * gradient / np.sqrt(v)
    m = 0.9 * m + 0.1 * 0.1 * rms(param) * step / max(1, rms(step))
    np.testing.assert_allclose(second["w"], -(m + 0.1 * 0.01 * param), rtol=1e-5)
    np.testing.assert_allclose(state.slots.m["w"], m, rtol=1e-5)
    assert state.count == 2


def test_adafactor_clips_large_steps_and_can_leave_the_parameters_scale_out():
    param = np.full((2, 2), 5.0, np.float32)
    gradient = np.array([[1.0, 0.0], [0.0, 0.0]], np.float32)
    optimizer = Adafactor(multiply_by_parameter_scale=False, clipping_threshold=0.25)
    (first, _), _ = two_updates(optimizer, {"w": param}, {"w": gradient}, {"w": False})
    # RMS of the step [1, 0, 0, 0] is 1/2, twice the threshold.
    np.testing.assert_allclose(first["w"], [[-0.1 * 0.5, 0], [0, 0]], atol=1e-6)


def test_factored_statistics_are_the_means_of_rows_and_columns():
    gradient = normal(2, 6, 5)
    param = {"w": jnp.ones((2, 6, 5))}
    transform = FACTORED.build(optax.constant_schedule(0.1), {"w": True})
    _, state = transform.update({"w": jnp.asarray(gradient)}, transform.init(param), param)
    np.testing.assert_allclose(state.slots.v_row["w"], (gradient**2).mean(1), rtol=1e-5)
    np.testing.assert_allclose(state.slots.v_col["w"], (gradient**2).mean(2), rtol=1e-5)
    assert state.slots.v["w"].shape == (2, 1)


def test_muon_orthogonalises_each_layer():
    gradient = jnp.asarray(normal(2, 8, 6))
    optimizer = Muon(weight_decay=0.0, clip_global_norm=None)
    shapes = {"kernel": (2, 8, 6), "scale": (2, 6), "embedding": (8, 6)}
    params = {name: jnp.zeros(shape) for name, shape in shapes.items()}
    gradients = {"kernel": gradient, "scale": gradient[:, 0], "embedding": gradient[0]}
    stacked = {"kernel": True, "scale": True, "embedding": False}
    (first, _), _ = two_updates(optimizer, params, gradients, stacked, rate=1.0)
    for layer in range(2):
        singular = np.linalg.svd(np.asarray(first["kernel"][layer]), compute_uv=False)
        # Five Newton-Schulz steps bring singular values near 1, scaled to an RMS of 0.2.
        assert singular.max() / singular.min() < 1.8
        np.testing.assert_allclose(rms(first["kernel"][layer]) / 0.2, 0.9, atol=0.25)
    # The first step of Adam with Nesterov momentum 0.9: 1 + 0.9 * 0.1 / (1 - 0.9^2) of the sign.
    for name in ("scale", "embedding"):
        np.testing.assert_allclose(first[name], -1.473684 * np.sign(gradients[name]), rtol=1e-3)


@pytest.mark.parametrize(
    "optimizer", [Adafactor(), AdamW(weight_decay=0.0), Muon(weight_decay=0.0)]
)
def test_a_quadratic_falls(optimizer: Optimizer):
    target = jnp.asarray(normal(2, 6, 6))
    params = {"w": jnp.zeros((2, 6, 6)) + 0.5, "b": jnp.ones((6,))}

    def loss(params):
        return jnp.sum((params["w"] - target) ** 2) + jnp.sum(params["b"] ** 2)

    transform = optimizer.build(optax.constant_schedule(0.05), {"w": True, "b": False})

    def step(carry, _):
        params, state = carry
        updates, state = transform.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    (made, _), _ = jax.jit(
        lambda params: jax.lax.scan(step, (params, transform.init(params)), length=150)
    )(params)
    assert loss(made) < 0.25 * loss(params)


def test_gradients_are_clipped_to_the_global_norm():
    gradients = {"a": jnp.full((4,), 30.0), "b": jnp.full((4,), 40.0)}
    params = jax.tree.map(jnp.zeros_like, gradients)
    # With eps far above the gradients AdamW's step is gradient / eps.
    optimizer = AdamW(eps=1e6, weight_decay=0.0, clip_global_norm=1.0)
    (first, _), _ = two_updates(optimizer, params, gradients, {"a": False, "b": False}, rate=1e6)
    np.testing.assert_allclose(first["a"], -0.3, rtol=1e-3)
    np.testing.assert_allclose(first["b"], -0.4, rtol=1e-3)
