"""The chunked loss against autodiff of the textbook formulas on all logits at once."""

import math
import re

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from archobj_jax.architectures.layers import OutputProjection
from archobj_jax.errors import UserError
from archobj_jax.partitioning.rules import activated
from archobj_jax.training.chunked_loss import loss_sums
from archobj_jax.training.losses import Loss
from tests import tiny

B, T, D, V = 2, 7, 5, 11
RNG = np.random.default_rng(0)
HIDDEN = jnp.asarray(RNG.normal(size=(B, T, D)), jnp.float32)
TABLE = jnp.asarray(RNG.normal(size=(V, D)), jnp.float32)
TARGETS = jnp.asarray(RNG.integers(0, V, (B, T)), jnp.int32)
WEIGHTS = jnp.asarray(RNG.integers(0, 2, (B, T)), jnp.float32)


def textbook(table: jax.Array, hidden: jax.Array, *, tied: bool, z_loss: float, smoothing: float):
    """Weighted sums of loss and z-loss; `table` is [V, D] either way."""
    logits = jnp.einsum("btd,vd->btv", hidden, table) / (math.sqrt(D) if tied else 1.0)
    log_p, log_z = jax.nn.log_softmax(logits), jax.nn.logsumexp(logits, axis=-1)
    low = smoothing / (V - 1)
    q = low + (1 - smoothing - low) * jax.nn.one_hot(TARGETS, V)
    entropy = -sum(x * math.log(x) for x in [1 - smoothing] + [low] * (V - 1) if x)
    z = z_loss * log_z**2
    return jnp.sum(WEIGHTS * (-(q * log_p).sum(-1) - entropy + z)), jnp.sum(WEIGHTS * z)


def chunked(table: jax.Array, hidden: jax.Array, *, tied: bool, loss: Loss):
    output = OutputProjection(table if tied else table.T, tied=tied)
    return loss_sums(loss, output, hidden, TARGETS, WEIGHTS)


@pytest.mark.parametrize("tokens", [1, 4, 6, 512])
@pytest.mark.parametrize(("tied", "smoothing"), [(True, 0.0), (False, 0.1)])
def test_sums_and_gradients_are_those_of_all_logits(tokens, tied, smoothing):
    loss = Loss(z_loss=0.01, label_smoothing=smoothing, chunk_bytes=4 * V * tokens)
    expected, z_loss = textbook(TABLE, HIDDEN, tied=tied, z_loss=0.01, smoothing=smoothing)
    made = chunked(TABLE, HIDDEN, tied=tied, loss=loss)
    assert made.loss == pytest.approx(float(expected), rel=1e-6)
    assert made.z_loss == pytest.approx(float(z_loss), rel=1e-6)
    assert made.weights == WEIGHTS.sum()
    gradients = jax.grad(
        lambda *a: 3.0 * textbook(*a, tied=tied, z_loss=0.01, smoothing=smoothing)[0], (0, 1)
    )(TABLE, HIDDEN)
    ours = jax.grad(lambda *a: 3.0 * chunked(*a, tied=tied, loss=loss).loss, (0, 1))(TABLE, HIDDEN)
    for name, value, reference in zip(("table", "hidden"), ours, gradients, strict=True):
        np.testing.assert_allclose(value, reference, rtol=1e-5, atol=1e-6, err_msg=name)


def test_correct_counts_weighted_targets_that_are_likeliest():
    likeliest = jnp.argmax(jnp.einsum("btd,vd->btv", HIDDEN, TABLE), axis=-1)
    made = chunked(TABLE, HIDDEN, tied=True, loss=Loss(chunk_bytes=4 * V * 4))
    assert made.correct == jnp.sum(WEIGHTS * (likeliest == TARGETS))


@pytest.mark.parametrize("differentiated", [False, True])
def test_all_logits_never_exist_at_once(differentiated: bool):
    def sizes(jaxpr):
        for equation in jaxpr.eqns:
            yield from (v.aval.size for v in equation.outvars)
            for inner in jax.extend.core.jaxprs_in_params(equation.params):
                yield from sizes(inner)

    def largest(tokens: int) -> int:
        def run(hidden: jax.Array) -> jax.Array:
            return chunked(TABLE, hidden, tied=True, loss=Loss(chunk_bytes=4 * V * tokens)).loss

        return max(sizes(jax.make_jaxpr(jax.grad(run) if differentiated else run)(HIDDEN).jaxpr))

    assert largest(512) >= B * T * V
    assert largest(B) == max(B * V, B * T * D, V * D)


def test_metrics_have_no_gradient():
    def z_loss(hidden: jax.Array) -> jax.Array:
        return chunked(TABLE, hidden, tied=True, loss=Loss()).z_loss

    np.testing.assert_array_equal(jax.grad(z_loss)(HIDDEN), 0.0)


def test_no_logits_at_a_time_is_an_error():
    with pytest.raises(UserError, match=r"Loss.chunk_bytes = 0: must be at least 1"):
        Loss(chunk_bytes=0)


@pytest.mark.parametrize("mesh", [{"fsdp": 4}, {"fsdp": 2, "tensor": 2}])
@pytest.mark.parametrize("tied", [True, False])
def test_shards_of_a_batch_are_added_up_once(mesh: dict[str, int], tied: bool):
    rows, length, features, vocab = 8, 12, 4, 64
    rules = tiny.blueprint(tiny.CD(tiny.NETWORK), 8, **mesh).rules
    axes = ("vocab", "embed") if tied else ("embed", "vocab")
    rng = np.random.default_rng(1)
    kernel = rng.normal(size=(vocab, features) if tied else (features, vocab)).astype(np.float32)
    hidden = rng.normal(size=(rows, length, features)).astype(np.float32)
    targets = rng.integers(0, vocab, (rows, length)).astype(np.int32)
    weights = rng.integers(0, 2, (rows, length)).astype(np.float32)

    def of_loss(kernel, hidden, targets, weights, chunk_bytes):
        loss, output = Loss(chunk_bytes=chunk_bytes), OutputProjection(kernel, tied=tied)
        return loss_sums(loss, output, hidden, targets, weights).loss

    def on_mesh(*arrays):
        with activated(rules):
            return jax.grad(of_loss, (0, 1))(*arrays, chunk_bytes=4 * vocab * 4)

    spread = [jax.device_put(kernel, rules.sharding(kernel.shape, axes))]
    for x in (hidden, targets, weights):
        names = ("batch", "length", "activation_embed")[: x.ndim]
        spread.append(jax.device_put(x, rules.sharding(x.shape, names)))
    compiled = jax.jit(on_mesh).lower(*spread).compile()
    whole = map(jnp.asarray, (kernel, hidden, targets, weights))
    expected = jax.grad(of_loss, (0, 1))(*whole, chunk_bytes=2**26)
    for made, reference in zip(compiled(*spread), expected, strict=True):
        np.testing.assert_allclose(made, reference, rtol=1e-5, atol=1e-6)
    # Within the loop over chunks only the vocabulary's shards talk to each other, of tokens.
    loop = re.search(r"body=(%[\w.-]+)", compiled.as_text())
    assert loop, "one chunk is no loop"
    body = compiled.as_text().split(f"\n{loop[1]} ", 1)[1].split("\n}", 1)[0]
    moved = re.findall(r"= f32\[([\d,]*)\]\S* all-(?:reduce|gather)", body)
    sizes = [math.prod(map(int, shape.split(","))) for shape in moved if shape]
    assert max(sizes, default=0) < vocab * features / mesh.get("tensor", 1)
    assert "reduce-scatter" not in body
    assert bool(moved) == ("tensor" in mesh)
