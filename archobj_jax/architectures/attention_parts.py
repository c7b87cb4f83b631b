"""What attention kernels share: what they are given, and products with shared heads."""

import jax
import jax.numpy as jnp
from flax import struct

from archobj_jax.architectures.masks import Mask, MaskArray, Places
from archobj_jax.shapes import Array, Float, PRNGKey

MASKED_LOGIT = -1e10
"""Where attention is not allowed; finite as T5's, so that a padding row attends uniformly."""


@struct.dataclass
class Structure:
    """Who may attend to whom: a mask, and the places of queries and keys it is a function of."""

    query: Places
    key: Places
    mask: Mask = struct.field(pytree_node=False)

    def allowed(self) -> MaskArray:
        """The dense mask [B, L, S], for kernels that want one."""
        return self.mask(self.query, self.key)


@struct.dataclass
class Dropout:
    """Dropout of attention probabilities, shared by all queries as T5X has it."""

    key: PRNGKey
    rate: float = struct.field(pytree_node=False)

    def kept(self, rows: int, heads: int, source: int) -> Float[Array, "B H 1 S"]:
        """What multiplies the probabilities; drawn whole, so that it is the same on every mesh."""
        keep = 1.0 - self.rate
        return jax.random.bernoulli(self.key, keep, (rows, heads, 1, source)) / keep


def grouped(x: Array, groups: int) -> Array:
    """[B, H, L, …] to [B, G, H / G * L, …]."""
    return x.reshape(x.shape[0], groups, -1, *x.shape[3:])


def product(x: Array, shared: Array, contracted: int) -> Float[Array, "B G _ _"]:
    """Products of `x` [B, H, L, _], by its last dimension, with what groups of heads share."""
    x = grouped(x, shared.shape[1])
    dimensions = (((3,), (contracted,)), ((0, 1), (0, 1)))
    return jax.lax.dot_general(x, shared, dimensions, preferred_element_type=jnp.float32)


def dropped(x: Array, kept: Array | None) -> Array:
    """With what dropout keeps, [B, H, 1, S], if there is dropout."""
    return x if kept is None else x * kept
