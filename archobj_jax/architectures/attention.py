"""Multi-head attention: projections around a kernel, for training and with a key-value cache."""

import jax
import jax.numpy as jnp
from flax import nnx, struct

from archobj_jax.architectures.attention_kernels import kernel_for
from archobj_jax.architectures.attention_parts import Dropout, Structure
from archobj_jax.architectures.layers import Dense
from archobj_jax.architectures.network import ATTENDED, NetworkConfig
from archobj_jax.architectures.parameters import PROJECTION, Initializer, query_projection
from archobj_jax.architectures.positions import rotate
from archobj_jax.partitioning.rules import constrain
from archobj_jax.shapes import Array, Float, Int, PRNGKey, checked


@struct.dataclass
class KeyValues:
    """Projected keys and values of a sequence."""

    key: Float[Array, "B S G K"]
    value: Float[Array, "B S G K"]


_CACHE_AXES = ("layers", "batch", "kv_heads", "kv_length", "kv")


@struct.dataclass
class CachedKeyValues:
    """Keys and values of all layers, with room for S tokens a row.

    Heads come before tokens, as the products of attention read them, so that none is transposed.
    """

    key: Float[Array, "N B G S K"]
    value: Float[Array, "N B G S K"]

    @classmethod
    def of(cls, stacked: KeyValues) -> "CachedKeyValues":
        """Takes the keys and values [N, B, S, G, K] of all layers."""
        return cls(jnp.swapaxes(stacked.key, 2, 3), jnp.swapaxes(stacked.value, 2, 3)).constrained()

    @checked
    def write(
        self, new: KeyValues, layer: Int[Array, ""], column: Int[Array, ""]
    ) -> "CachedKeyValues":
        """Puts a layer's `new` [B, L, G, K] at the columns from `column` on, the same in all rows.

        One column for all rows makes it an update in place, on any mesh.
        """
        at = (layer, 0, 0, column, 0)

        def written(old: Array, new: Array) -> Array:
            return jax.lax.dynamic_update_slice(old, jnp.swapaxes(new, 1, 2)[None], at)

        return CachedKeyValues(
            written(self.key, new.key), written(self.value, new.value)
        ).constrained()

    @checked
    def layer(self, index: Int[Array, ""]) -> KeyValues:
        """The keys and values of one layer."""
        key, value = (
            jax.lax.dynamic_index_in_dim(x, index, keepdims=False) for x in (self.key, self.value)
        )
        return KeyValues(jnp.swapaxes(key, 1, 2), jnp.swapaxes(value, 1, 2))

    def repeated(self, times: int) -> "CachedKeyValues":
        """Every row so many times, one after the other."""
        return jax.tree.map(lambda x: jnp.repeat(x, times, axis=1), self).constrained()

    def grown(self, length: int) -> "CachedKeyValues":
        """With room for `length` tokens a row."""
        room = ((0, 0),) * 3 + ((0, length - self.key.shape[3]), (0, 0))
        return jax.tree.map(lambda x: jnp.pad(x, room), self).constrained()

    def reordered(self, parents: Int[Array, "P K"], *, prompt: int) -> "CachedKeyValues":
        """Rows [P * K] take what row `parents` of the same prompt has behind column `prompt`."""

        def reordered(x: Array) -> Array:
            new = x[:, :, :, prompt:]
            grouped = new.reshape(new.shape[0], *parents.shape, *new.shape[2:])
            # Batched over prompts, so that no mesh must gather rows of other prompts.
            taken = jax.vmap(lambda rows, at: rows[:, at], in_axes=(1, 0), out_axes=1)(
                grouped, parents
            )
            return jax.lax.dynamic_update_slice(x, taken.reshape(new.shape), (0, 0, 0, prompt, 0))

        return jax.tree.map(reordered, self).constrained()

    def constrained(self) -> "CachedKeyValues":
        """The same, laid on the mesh by the active rules."""
        return CachedKeyValues(constrain(self.key, _CACHE_AXES), constrain(self.value, _CACHE_AXES))


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
        self.out = Dense(
            (heads, embed),
            ("joined_kv", "embed"),
            PROJECTION,
            dtype=dtype,
            rngs=rngs,
            # Since its input and output are kept, nothing else would gather it again.
            kept=ATTENDED if config.remat_policy == "attention" else None,
        )

    @checked
    def keys_values(self, x: Float[Array, "B S D"], offset: Int[Array, "_ S"]) -> KeyValues:
        """Projects a sequence to keys and values; each device its part, which is then gathered."""
        shape = (*x.shape[:2], self.config.kv_heads, self.config.head_dim)
        key = self.key(x).reshape(shape)
        if self.rotary:
            key = rotate(key, offset)
        return KeyValues(_gathered(key), _gathered(self.value(x).reshape(shape)))

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


def _gathered(x: Float[Array, "B S G K"]) -> Float[Array, "B S G K"]:
    """Projected where the tokens are, then of all tokens, which every query of a row reads."""
    own = constrain(x, ("batch", "length", "kv_heads", "kv"))
    return constrain(own, ("batch", "kv_length", "kv_heads", "kv"))
