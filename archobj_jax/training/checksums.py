"""Checksums of sharded arrays, by which a checkpoint is verified and two runs are compared."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from archobj_jax.shapes import Array
from archobj_jax.training.state import flatten

_MULTIPLIER = 2654435761  # Knuth's, odd


def checksums(tree: Any) -> Mapping[str, int]:
    """A 32-bit checksum of each array (of a 32-bit dtype) of a tree, the same on every mesh."""
    return started_checksums(tree)()


def started_checksums(tree: Any) -> Callable[[], Mapping[str, int]]:
    """Dispatches `checksums`, and returns what waits for them; `tree` may be donated meanwhile."""
    named = dict(flatten(tree))
    sums = _checksums(list(named.values()))
    return lambda: {
        name: int(value) for name, value in zip(named, jax.device_get(sums), strict=True)
    }


@jax.jit
def _checksums(leaves: Sequence[Array]) -> Sequence[Array]:
    return [_checksum(leaf) for leaf in leaves]


def _checksum(x: Array) -> Array:
    """The sum of all elements' bits, each times an odd number of its place, modulo 2^32.

    Such a sum does not depend on its order, so neither on the mesh; the places make swapped
    elements show. They are made dimension by dimension, so that nothing is gathered.
    """
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    place, stride = jnp.zeros((), jnp.uint32), 1
    for dimension in reversed(range(x.ndim)):
        iota = jax.lax.broadcasted_iota(jnp.uint32, x.shape, dimension)
        place = place + iota * jnp.uint32(stride % 2**32)
        stride *= x.shape[dimension]
    factor = (place * jnp.uint32(_MULTIPLIER) + jnp.uint32(1)) | jnp.uint32(1)
    return jnp.sum(bits * factor, dtype=jnp.uint32)
