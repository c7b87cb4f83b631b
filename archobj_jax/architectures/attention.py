"""Multi-head attention: projections around a kernel, for training and with a key-value cache."""

import jax.numpy as jnp
from flax import nnx, struct

from archobj_jax.architectures.attention_kernels import Dropout, Structure, kernel_for
from archobj_jax.architectures.layers import Dense
from archobj_jax.architectures.network import NetworkConfig
from archobj_jax.architectures.parameters import PROJECTION, Initializer, query_projection
from archobj_jax.architectures.positions import rotate
from archobj_jax.partitioning.rules import constrain
from archobj_jax.shapes import Array, Float, Int, PRNGKey, checked


@struct.dataclass
class KeyValues:
    """Projected keys and values of a sequence; in a cache, with room for the rest of it."""

    key: Float[Array, "B S G K"]
    value: Float[Array, "B S G K"]

    @checked
    def write(self, new: "KeyValues", offset: Int[Array, "_ L"]) -> "KeyValues":
        """Puts `new` [B, L, G, K] at the offsets of its tokens."""
        rows = jnp.arange(self.key.shape[0])[:, None]
        return KeyValues(
            key=self.key.at[rows, offset].set(new.key),
            value=self.value.at[rows, offset].set(new.value),
        )


class Attention(nnx.Module):
    """Attention without biases or run-time scaling: 1/sqrt(K) is in the query initialiser."""

    def __init__(self, config: NetworkConfig, *, rotary: bool, rngs: nnx.Rngs):
        self.config = config
        self.rotary = rotary
        self.kernel = kernel_for(config)
        embed, dtype = config.emb_dim, config.compute_dtype
        heads, kv_heads = config.num_heads * config.head_dim, config.kv_heads * config.head_dim

        def inward(size: int, init: Initializer) -> Dense:
            return Dense((embed, size), ("embed", "joined_kv"), init, dtype=dtype, rngs=rngs)

        self.query = inward(heads, query_projection(config.head_dim))
        self.key = inward(kv_heads, PROJECTION)
        self.value = inward(kv_heads, PROJECTION)
        self.out = Dense((heads, embed), ("joined_kv", "embed"), PROJECTION, dtype=dtype, rngs=rngs)

    @checked
    def keys_values(self, x: Float[Array, "B S D"], offset: Int[Array, "_ S"]) -> KeyValues:
        """Projects a sequence to keys and values."""
        shape = (*x.shape[:2], self.config.kv_heads, self.config.head_dim)
        key = self.key(x).reshape(shape)
        if self.rotary:
            key = rotate(key, offset)
        axes = ("batch", "length", "kv_heads", "kv")
        return KeyValues(constrain(key, axes), constrain(self.value(x).reshape(shape), axes))

    @checked
    def __call__(
        self,
        x: Float[Array, "B L D"],
        attended: KeyValues,
        *,
        structure: Structure,
        bias: Float[Array, "_ H L S"] | None,
        key: PRNGKey | None,
    ) -> Float[Array, "B L D"]:
        """Attends from `x` to projected keys and values; `key` drives dropout."""
        query = self.query(x).reshape(*x.shape[:2], self.config.num_heads, self.config.head_dim)
        if self.rotary:
            query = rotate(query, structure.query.offset)
        query = constrain(query, ("batch", "length", "heads", "kv"))
        rate = self.config.dropout_rate
        dropout = None if key is None or rate == 0.0 else Dropout(key=key, rate=rate)
        mixed = self.kernel(
            query, attended.key, attended.value, structure=structure, bias=bias, dropout=dropout
        )
        return self.out(mixed.reshape(*x.shape[:2], -1))
