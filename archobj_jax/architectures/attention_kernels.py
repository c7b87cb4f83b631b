"""Interchangeable computations of attention. `xla` is the reference the others are tested against.

A kernel gets projected queries, keys and values, the structure of who may attend to whom, and a
position bias; it decides itself whether a dense mask ever exists. What it cannot do it says in
`unsupported`, which is asked when the model is built.
"""

from collections.abc import Mapping
from typing import Protocol

import jax
import jax.numpy as jnp
from flax import struct

from archobj_jax.architectures.masks import Mask, MaskArray, Places
from archobj_jax.architectures.network import NetworkConfig
from archobj_jax.errors import UserError, did_you_mean
from archobj_jax.shapes import Array, Float, PRNGKey, checked

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


class AttentionKernel(Protocol):
    """Computes attention: softmax(query . key + bias, where allowed) . value."""

    def unsupported(self, config: NetworkConfig) -> str | None:
        """What of `config` this kernel cannot do, or None."""

    def __call__(
        self,
        query: Float[Array, "B L H K"],
        key: Float[Array, "B S G K"],
        value: Float[Array, "B S G K"],
        *,
        structure: Structure,
        bias: Float[Array, "#B H L S"] | None,
        dropout: Dropout | None,
    ) -> Float[Array, "B L H K"]:
        """Attends; the softmax is float32, the result has the dtype of `value`."""


class XlaAttention:
    """Plain einsums with a dense mask; does everything."""

    def unsupported(self, config: NetworkConfig) -> str | None:
        """Nothing is unsupported."""
        del config
        return None

    @checked
    def __call__(
        self,
        query: Float[Array, "B L H K"],
        key: Float[Array, "B S G K"],
        value: Float[Array, "B S G K"],
        *,
        structure: Structure,
        bias: Float[Array, "_ H L S"] | None,
        dropout: Dropout | None,
    ) -> Float[Array, "B L H K"]:
        """See `AttentionKernel`. G query heads in a row share a key-value head."""
        batch, length, heads, head_dim = query.shape
        groups, source = key.shape[2], key.shape[1]
        query = query.reshape(batch, length, groups, heads // groups, head_dim)
        logits = jnp.einsum(
            "blghk,bsgk->bghls", query, key, preferred_element_type=jnp.float32
        ).reshape(batch, heads, length, source)
        if bias is not None:
            logits = logits + bias.astype(jnp.float32)
        logits = jnp.where(structure.allowed()[:, None], logits, MASKED_LOGIT)
        weights = jax.nn.softmax(logits, axis=-1).astype(value.dtype)
        if dropout is not None:
            weights = weights * _kept(dropout, (batch, heads, 1, source)).astype(weights.dtype)
        weights = weights.reshape(batch, groups, heads // groups, length, source)
        return jnp.einsum("bghls,bsgk->blghk", weights, value).reshape(
            batch, length, heads, head_dim
        )


def _kept(dropout: Dropout, shape: tuple[int, ...]) -> Array:
    keep = 1.0 - dropout.rate
    return jax.random.bernoulli(dropout.key, keep, shape) / keep


KERNELS: Mapping[str, AttentionKernel] = {"xla": XlaAttention()}


def kernel_for(config: NetworkConfig) -> AttentionKernel:
    """The kernel that `config` names.

    Raises:
      UserError: there is none of that name, or it cannot do what `config` asks.
    """
    name = config.attention_kernel
    if name not in KERNELS:
        raise UserError(
            f"NetworkConfig.attention_kernel = {name!r}: must be one of {', '.join(KERNELS)}."
            + did_you_mean(name, KERNELS)
        )
    kernel = KERNELS[name]
    if (missing := kernel.unsupported(config)) is not None:
        raise UserError(f"NetworkConfig.attention_kernel = {name!r} cannot do {missing}.")
    return kernel
