"""Activations of the feed-forward block, by the names that T5X gives them."""

from collections.abc import Callable, Mapping

import jax

from archobj_jax.shapes import Array

ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=True),
    "linear": lambda x: x,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
}
