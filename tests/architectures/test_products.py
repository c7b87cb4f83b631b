"""Products are what their plain forms are, on the platform that has forms of its own too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from archobj_jax.architectures.products import project, stored, sum_of_rows, transposed_product

RNG = np.random.default_rng(0)


def drawn(*shape: int) -> jax.Array:
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


@pytest.mark.parametrize(("inward", "outward"), [(3, 8), (8, 3)])
def test_a_projection_has_the_gradients_of_a_product(inward: int, outward: int):
    x, kernel = drawn(2, 5, inward), drawn(inward, outward)

    def of(product):
        return jax.jit(jax.value_and_grad(lambda x, k: jnp.sum(jnp.sin(product(x, k))), (0, 1)))

    made, expected = (
        of(lambda x, k: project(x, k, (None, None), None))(x, kernel),
        of(jnp.matmul)(x, kernel),
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), made, expected
    )


@pytest.mark.parametrize(("left", "right"), [(3, 8), (8, 3)])
def test_transposed_products_sum_over_what_is_between(left: int, right: int):
    a, b = drawn(2, 4, 5, left), drawn(2, 4, 5, right)
    for batch_dims, formula in (
        (0, "xyza,xyzb->ab"),
        (1, "xyza,xyzb->xab"),
        (2, "xyza,xyzb->xyab"),
    ):
        made = jax.jit(lambda a, b, n=batch_dims: transposed_product(a, b, batch_dims=n))(a, b)
        np.testing.assert_allclose(made, np.einsum(formula, a, b), rtol=1e-5, atol=1e-6)


def test_sums_of_rows_keep_the_dimension():
    x = drawn(3, 4, 2)
    np.testing.assert_allclose(
        jax.jit(sum_of_rows)(x), np.sum(x, axis=0, keepdims=True), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(jax.jit(stored)(x), x)


@pytest.mark.parametrize(("platform", "barriers"), [("cpu", 2), ("tpu", 0), ("cuda", 0)])
def test_accelerators_get_the_plain_forms(platform: str, barriers: int):
    def made(a: jax.Array, b: jax.Array) -> jax.Array:
        return transposed_product(stored(a), b) + sum_of_rows(a).sum()

    traced = jax.jit(made).trace(drawn(4, 8), drawn(4, 3))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert text.count("optimization_barrier") == barriers
