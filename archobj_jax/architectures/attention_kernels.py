"""Interchangeable computations of attention. `xla` is the reference the others are tested against.

A kernel gets projected queries, keys and values, the structure of who may attend to whom, and a
position bias; it decides itself whether a dense mask ever exists. What it cannot do it says in
`unsupported`, which is asked when the model is built.
"""

from collections.abc import Mapping
from typing import Protocol

from archobj_jax.architectures.attention_parts import Dropout, Structure
from archobj_jax.architectures.chunked_attention import ChunkedAttention
from archobj_jax.architectures.dense_attention import XlaAttention
from archobj_jax.architectures.network import NetworkConfig
from archobj_jax.errors import UserError, did_you_mean
from archobj_jax.shapes import Array, Float


class AttentionKernel(Protocol):
    """Computes attention: softmax(query . key + bias, where allowed) . value.

    It is differentiated in query, key, value and bias. A bias of n rows has one for each n-th of
    the batch: one for all, one for each row, or one for each part of the batch that lies on devices
    of its own, whose gradient is then summed there alone.

    In decoding L differs from S and keys may be empty places; a query that may attend to nothing
    attends to all keys alike. Dropout is the same for all queries.
    """

    def unsupported(self, config: NetworkConfig) -> str | None:
        """What of `config` this kernel cannot do, or None."""

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
        """Attends; the softmax is float32, the result has the dtype of `value`."""


KERNELS: Mapping[str, AttentionKernel] = {
    "xla": XlaAttention(),
    "chunked": ChunkedAttention(),
}


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
