"""T5's buckets as T5X computes them; rotary embeddings depend on distance alone."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from archobj_jax.architectures.masks import Places
from archobj_jax.architectures.positions import (
    RelativePositionBias,
    _multiplied,
    _taken,
    relative_position_bucket,
    rotate,
)
from archobj_jax.errors import UserError
from archobj_jax.partitioning.rules import activated
from tests import tiny

RELPOS = Path(__file__).parents[1] / "golden/parity/relpos.npz"


@pytest.mark.parametrize("bidirectional", [True, False])
def test_buckets_equal_t5x(bidirectional: bool):
    with np.load(RELPOS) as golden:
        expected = golden["bucket_bidirectional" if bidirectional else "bucket_causal"]
        distance = jnp.asarray(golden["relative_position"])
    bucket = relative_position_bucket(distance, bidirectional=bidirectional)
    np.testing.assert_array_equal(np.asarray(bucket), expected)


def test_bias_is_the_tables_entry_of_each_pair():
    bias = RelativePositionBias(
        num_heads=2, num_buckets=8, max_distance=16, bidirectional=True, rngs=nnx.Rngs(0)
    )
    where = Places.of(jnp.ones((3, 5), jnp.int32))
    made = np.asarray(bias(where, where, jnp.dtype("float32")))
    assert made.shape == (1, 2, 5, 5)  # one for all rows: they have the same offsets
    for query in range(5):
        for key in range(5):
            bucket = relative_position_bucket(
                jnp.asarray(key - query), bidirectional=True, num_buckets=8, max_distance=16
            )
            np.testing.assert_array_equal(
                made[0, :, query, key], bias.rel_embedding[...][:, bucket]
            )


def test_rotary_scores_depend_on_the_distance_alone():
    rng = np.random.default_rng(0)
    query, key = (jnp.asarray(rng.normal(size=(1, 6, 2, 8)), jnp.float32) for _ in range(2))
    offset = jnp.arange(6, dtype=jnp.int32)[None]

    def scores(shift: int) -> np.ndarray:
        turned = [rotate(x, offset + shift) for x in (query, key)]
        return np.asarray(jnp.einsum("blhk,bshk->bhls", *turned))

    np.testing.assert_allclose(scores(37), scores(0), atol=1e-4)
    unrotated = np.asarray(jnp.einsum("blhk,bshk->bhls", query, key))
    assert np.abs(scores(0) - unrotated).max() > 0.1
    np.testing.assert_allclose(
        np.diagonal(scores(5), axis1=2, axis2=3),
        np.diagonal(unrotated, axis1=2, axis2=3),
        atol=1e-5,
    )


def test_rotation_keeps_length_and_is_none_at_the_first_place():
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, 1, 4)), jnp.float32)
    turned = rotate(x, jnp.arange(3, dtype=jnp.int32)[None])
    np.testing.assert_array_equal(turned[:, 0], x[:, 0])
    np.testing.assert_allclose(
        jnp.linalg.norm(turned, axis=-1), jnp.linalg.norm(x, axis=-1), rtol=1e-6
    )
    angle = 2.0 / 10_000 ** (1 / 2)  # place 2, the second of two frequencies
    expected = x[0, 2, 0, 1] * np.cos(angle) - x[0, 2, 0, 3] * np.sin(angle)
    np.testing.assert_allclose(turned[0, 2, 0, 1], expected, rtol=1e-5)


def test_each_part_of_a_batch_has_a_bias_whose_gradients_add_up():
    bias = RelativePositionBias(
        num_heads=4, num_buckets=8, max_distance=16, bidirectional=True, rngs=nnx.Rngs(0)
    )
    where = Places.of(jnp.ones((8, 5), jnp.int32))
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(8, 4, 5, 5)), jnp.float32)
    rules = tiny.blueprint(tiny.CD(tiny.NETWORK), 8, data=2, fsdp=2, tensor=2).rules

    def loss(bias):
        made = bias(where, where, jnp.dtype("float32"))
        rows = jnp.repeat(made, 8 // made.shape[0], axis=0)
        return jnp.sum(jnp.sin(rows) * weights), made

    def run(bias):
        gradients, made = nnx.grad(loss, has_aux=True)(bias)
        return gradients.rel_embedding[...], made

    expected, shared = nnx.jit(run)(bias)
    with activated(rules):
        gradients, made = nnx.jit(run)(bias)
    assert made.shape == (4, 4, 5, 5)
    np.testing.assert_array_equal(made, np.broadcast_to(shared, made.shape))
    np.testing.assert_allclose(gradients, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("tables", "rows"), [(1, 1), (3, 1), (1, 2)])
def test_looking_up_by_products_finds_the_same_entries(tables: int, rows: int, dtype: str):
    rng = np.random.default_rng(0)
    table = jnp.asarray(rng.normal(size=(tables, 4, 8)), dtype)
    bucket = jnp.asarray(rng.integers(0, 8, (rows, 5, 6)), jnp.int32)
    np.testing.assert_array_equal(_multiplied(table, bucket), _taken(table, bucket))


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"relative_buckets": 2}, "relative_buckets = 2: must be at least 4"),
        ({"relative_max_distance": 16}, "relative_max_distance = 16: must exceed half of"),
    ],
)
def test_buckets_that_cannot_be_are_refused(sizes, said):
    with pytest.raises(UserError, match=said):
        tiny.network(**sizes)
