"""The layers that all architectures are made of. No dense layer has a bias."""

import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx, struct

from archobj_jax.architectures.activations import ACTIVATIONS
from archobj_jax.architectures.network import NetworkConfig
from archobj_jax.architectures.parameters import (
    EMBEDDING,
    MLP,
    SCALE,
    Initializer,
    parameter,
)
from archobj_jax.architectures.products import project
from archobj_jax.partitioning.rules import constrain
from archobj_jax.shapes import Array, Float, Int, PRNGKey, checked

NORM_EPSILON = 1e-6

RECOMPUTED = functools.partial(jax.checkpoint, prevent_cse=False)
"""For what costs little to compute again in the backward pass. Layers run under a scan, across
whose passes nothing is shared by chance."""


def dropout(x: Array, rate: float, key: PRNGKey | None) -> Array:
    """Dropout of [B, L, _], shared along the length as T5X has it; none without a key."""
    if key is None or rate == 0.0:
        return x
    keep = jax.random.bernoulli(key, 1.0 - rate, (x.shape[0], 1, x.shape[2]))
    return jnp.where(keep, x / (1.0 - rate), 0.0).astype(x.dtype)


def split_key(key: PRNGKey | None, count: int) -> list[PRNGKey | None]:
    """Splits a dropout key; no key splits into no keys."""
    return [None] * count if key is None else list(jax.random.split(key, count))


class RMSNorm(nnx.Module):
    """x / sqrt(mean(x^2) + 1e-6) in float32, cast to the compute dtype, then scaled."""

    def __init__(self, features: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.dtype = dtype
        self.scale = parameter(SCALE, (features,), ("embed",), rngs=rngs)

    @checked
    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        """Normalises the last dimension; the backward pass keeps nothing but `x`."""

        def normed(x: Array, scale: Array) -> Array:
            x = x.astype(jnp.float32)
            mean_square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
            normed = (x * jax.lax.rsqrt(mean_square + NORM_EPSILON)).astype(self.dtype)
            return normed * scale.astype(self.dtype)

        return RECOMPUTED(normed)(x, self.scale[...])


class Dense(nnx.Module):
    """x @ kernel, kernel [in, out], computed in `dtype`.

    `kept` is the `checkpoint_name` of the gathered kernel, for remat policies that keep it.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        axes: tuple[str, str],
        init: Initializer,
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
        kept: str | None = None,
    ):
        self.dtype = dtype
        self.axes = axes
        self.kept = kept
        self.kernel = parameter(init, shape, axes, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """Projects the last dimension."""
        kernel = self.kernel[...].astype(self.dtype)
        return project(x.astype(self.dtype), kernel, self.axes, self.kept)


class MlpBlock(nnx.Module):
    """The feed-forward block: product of activated projections, dropout, projection back."""

    def __init__(self, config: NetworkConfig, *, rngs: nnx.Rngs):
        self.config = config
        names = (
            ["wi"]
            if len(config.mlp_activations) == 1
            else [f"wi_{i}" for i in range(len(config.mlp_activations))]
        )
        self.input_names = tuple(names)
        dtype = config.compute_dtype
        for name in names:
            wi = Dense(
                (config.emb_dim, config.mlp_dim), ("embed", "mlp"), MLP, dtype=dtype, rngs=rngs
            )
            setattr(self, name, wi)
        self.wo = Dense(
            (config.mlp_dim, config.emb_dim), ("mlp", "embed"), MLP, dtype=dtype, rngs=rngs
        )

    @checked
    def __call__(self, x: Float[Array, "B L D"], key: PRNGKey | None) -> Float[Array, "B L D"]:
        """Applies the block; `key` drives dropout.

        The backward pass computes all but the matrix products again: it costs little, and an
        activation like gelu would keep five arrays of its size otherwise.
        """
        projected = [getattr(self, name)(x) for name in self.input_names]

        def rest(*projected: Array) -> Array:
            pairs = zip(self.config.mlp_activations, projected, strict=True)
            activated = [ACTIVATIONS[name](x) for name, x in pairs]
            product = functools.reduce(jnp.multiply, activated)
            product = dropout(product, self.config.dropout_rate, key)
            return self.wo(constrain(product, ("batch", "length", "mlp")))

        return RECOMPUTED(rest)(*projected)


class TokenEmbedder(nnx.Module):
    """The embedding table."""

    def __init__(self, config: NetworkConfig, *, rngs: nnx.Rngs):
        self.config = config
        shape = (config.vocab_size, config.emb_dim)
        self.embedding = parameter(EMBEDDING, shape, ("vocab", "embed"), rngs=rngs)

    @checked
    def __call__(self, tokens: Int[Array, "B L"]) -> Float[Array, "B L D"]:
        """Looks the rows of `tokens` up."""
        # Rows are looked up whole: a table sharded by features too would make XLA copy all of it.
        table = constrain(self.embedding[...], ("vocab", None))
        return jnp.take(table, tokens, axis=0).astype(self.config.compute_dtype)


@struct.dataclass
class OutputProjection:
    """From final hidden states to logits, as a value, so that it can be differentiated by chunks.

    Attributes:
      kernel: float32 [D, V], or the embedding table [V, D] if `tied`.
      tied: whether it is the embedding table; logits are then scaled by 1/sqrt(D).
    """

    kernel: Float[Array, "_ _"]
    tied: bool = struct.field(pytree_node=False)

    @checked
    def __call__(self, hidden: Float[Array, "B L D"]) -> Float[Array, "B L V"]:
        """Logits in float32."""
        hidden = hidden.astype(jnp.float32)
        if self.tied:
            return (hidden / math.sqrt(hidden.shape[-1])) @ self.kernel.T
        return hidden @ self.kernel

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.kernel.shape[0 if self.tied else 1]
