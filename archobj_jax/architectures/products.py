"""Matrix products whose gradients are as fast as the products themselves, on CPUs too.

XLA for CPUs contracts the last dimension of the left factor, and transposes what does not come so,
doing anew in the transposed order whatever it had fused into it; and its sums over leading
dimensions are slow. Forms that avoid both are chosen when a program is lowered for a CPU;
accelerators get the plain ones.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from archobj_jax.partitioning.rules import constrain, gathered
from archobj_jax.shapes import Array, Float, checked


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def project(x: Array, kernel: Array, axes: tuple[str | None, ...], name: str | None) -> Array:
    """x [*B, D] @ kernel [D, F] with logical `axes`, which comes to the rows of x whole.

    The backward pass gathers the kernel again, and its gradient goes back to where it lies: left to
    itself XLA may keep what was gathered, or reduce a gradient whole. With a `name` the backward
    pass takes what was gathered, which a remat policy can keep by that `checkpoint_name`.
    """
    return _project_forward(x, kernel, axes, name)[0]


def _project_forward(
    x: Array, kernel: Array, axes: tuple[str | None, ...], name: str | None
) -> tuple[Array, tuple[Array, Array]]:
    whole = gathered(kernel, axes)
    if name is None:
        return x @ whole, (x, kernel)
    whole = checkpoint_name(whole, name)
    return x @ whole, (x, whole)


def _project_backward(
    axes: tuple[str | None, ...],
    name: str | None,
    residuals: tuple[Array, Array],
    gradient: Array,
) -> tuple[Array, Array]:
    x, kernel = residuals
    whole = gathered(kernel, axes) if name is None else kernel
    return gradient @ whole.T, constrain(transposed_product(x, gradient), axes)


project.defvjp(_project_forward, _project_backward)


def transposed_product(a: Array, b: Array, *, batch_dims: int = 0) -> Array:
    """[*N, *L, A] and [*N, *L, B] to [*N, A, B], summed over L; N are `batch_dims` dimensions."""

    def product(a: Array, b: Array) -> Array:
        batch = tuple(range(batch_dims))
        summed = tuple(range(batch_dims, a.ndim - 1))
        return lax.dot_general(a, b, ((summed, summed), (batch, batch)))

    def smaller_transposed(a: Array, b: Array) -> Array:
        if a.shape[-1] <= b.shape[-1]:
            return product(a, b)
        # Without the barrier XLA swaps the factors back.
        return jnp.swapaxes(lax.optimization_barrier(product(b, a)), -1, -2)

    return lax.platform_dependent(a, b, cpu=smaller_transposed, default=product)


def stored(x: Array) -> Array:
    """`x`, which several products read: computed once, where they would each do it."""
    return lax.platform_dependent(x, cpu=lax.optimization_barrier, default=lambda x: x)


@checked
def sum_of_rows(x: Float[Array, "B ..."]) -> Float[Array, "1 ..."]:
    """The sum over the first dimension, which stays."""

    def by_product(x: Array) -> Array:
        return jnp.tensordot(jnp.ones((1, x.shape[0]), x.dtype), x, axes=1)

    def plain(x: Array) -> Array:
        return jnp.sum(x, axis=0, keepdims=True)

    return lax.platform_dependent(x, cpu=by_product, default=plain)
