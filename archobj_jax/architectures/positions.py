"""How attention knows positions: T5's relative position buckets, and rotary embeddings."""

import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from archobj_jax.architectures.masks import Places
from archobj_jax.architectures.parameters import RELATIVE_POSITION, parameter
from archobj_jax.partitioning.rules import constrain, row_shards
from archobj_jax.shapes import Array, Float, Int, checked


@checked
def relative_position_bucket(
    relative_position: Int[Array, "..."],
    *,
    bidirectional: bool,
    num_buckets: int = 32,
    max_distance: int = 128,
) -> Int[Array, "..."]:
    """T5's bucket of `key offset - query offset` (Raffel et al. 2020, section 2.1).

    Half of the buckets are exact offsets, the other half grow logarithmically up to
    `max_distance`, beyond which all share the last one. Bidirectional buckets use one half for
    keys before the query and the other for keys after it; causal ones put all keys after the
    query into bucket 0.
    """
    distance = -relative_position
    first = jnp.zeros_like(distance)
    if bidirectional:
        num_buckets //= 2
        first = jnp.where(distance < 0, num_buckets, 0)
        distance = jnp.abs(distance)
    else:
        distance = jnp.maximum(distance, 0)
    exact = num_buckets // 2
    # The tiny addend keeps log finite at 0, where the exact bucket is taken anyway.
    tiny = jnp.finfo(jnp.float32).eps
    share = jnp.log(distance.astype(jnp.float32) / exact + tiny) / math.log(max_distance / exact)
    logarithmic = exact + (share * (num_buckets - exact)).astype(jnp.int32)
    logarithmic = jnp.minimum(logarithmic, num_buckets - 1)
    return first + jnp.where(distance < exact, distance, logarithmic)


class RelativePositionBias(nnx.Module):
    """A learned bias for each head and bucket of relative position, added to attention logits."""

    def __init__(
        self,
        *,
        num_heads: int,
        num_buckets: int,
        max_distance: int,
        bidirectional: bool,
        rngs: nnx.Rngs,
    ):
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.bidirectional = bidirectional
        self.rel_embedding = parameter(
            RELATIVE_POSITION, (num_heads, num_buckets), ("heads", "relpos_buckets"), rngs=rngs
        )

    @checked
    def __call__(self, query: Places, key: Places, dtype: jnp.dtype) -> Float[Array, "_ H L S"]:
        """The bias of every pair; its first dimension is 1 when all rows have the same offsets."""
        bucket = relative_position_bucket(
            key.offset[:, None, :] - query.offset[:, :, None],
            bidirectional=self.bidirectional,
            num_buckets=self.num_buckets,
            max_distance=self.max_distance,
        )
        table = self.rel_embedding[...]
        # Each part of the batch has a table of its own, so that what is summed over devices is the
        # gradient of tables, not of the bias of all pairs.
        shards = row_shards(query.segment.shape[0]) if bucket.shape[0] == 1 else 1
        tables = constrain(
            jnp.broadcast_to(table, (shards, *table.shape)), ("batch", "heads", "relpos_buckets")
        )
        return looked_up(tables, bucket, dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
@checked
def looked_up(
    tables: Float[Array, "_ H N"], bucket: Int[Array, "_ L S"], dtype: jnp.dtype
) -> Float[Array, "_ H L S"]:
    """Every pair's entry of each table (of several tables, or for several rows of buckets).

    TPUs gather, and scatter the gradient, an entry at a time: they multiply by unit vectors.
    """
    return lax.platform_dependent(tables.astype(dtype), bucket, cpu=_taken, default=_multiplied)


def _taken(tables: Array, bucket: Array) -> Array:
    found = jnp.moveaxis(jnp.take(tables, bucket, axis=2), 1, 2)
    return found.reshape(-1, *found.shape[2:])


def _multiplied(tables: Array, bucket: Array) -> Array:
    units = jax.nn.one_hot(bucket, tables.shape[2], dtype=tables.dtype, axis=1)
    found = jnp.einsum("thn,rnls->trhls", tables, units, precision=_precision(tables))
    return found.reshape(-1, *found.shape[2:])


def _precision(x: Array) -> lax.Precision | None:
    return None if x.dtype == jnp.bfloat16 else lax.Precision.HIGHEST


def _looked_up_forward(
    tables: Array, bucket: Array, dtype: jnp.dtype
) -> tuple[Array, tuple[Array, Array]]:
    return looked_up(tables, bucket, dtype), (tables, bucket)


def _looked_up_backward(
    dtype: jnp.dtype, residuals: tuple[Array, Array], gradient: Array
) -> tuple[Array, None]:
    """Summed in the dtype of the tables, whatever that of the gradient."""
    tables, bucket = residuals

    def scattered(tables: Array, bucket: Array, gradient: Array) -> Array:
        _, transposed = jax.vjp(lambda tables: _taken(tables, bucket), tables)
        return transposed(gradient.astype(tables.dtype))[0]

    def multiplied(tables: Array, bucket: Array, gradient: Array) -> Array:
        units = jax.nn.one_hot(bucket, tables.shape[2], dtype=dtype, axis=1)
        parts = gradient.reshape(-1, bucket.shape[0], *gradient.shape[1:])
        return jnp.einsum(
            "trhls,rnls->thn", parts, units, precision=_precision(gradient),
            preferred_element_type=tables.dtype,
        )  # fmt: skip

    made = lax.platform_dependent(tables, bucket, gradient, cpu=scattered, default=multiplied)
    return made, None


looked_up.defvjp(_looked_up_forward, _looked_up_backward)


@checked
def rotate(
    x: Float[Array, "B L H K"], offset: Int[Array, "_ L"], max_wavelength: float = 10_000.0
) -> Float[Array, "B L H K"]:
    """Rotary position embedding (Su et al. 2021), halves rotated, angles in float32."""
    half = x.shape[-1] // 2
    wavelength = max_wavelength ** (jnp.arange(half, dtype=jnp.float32) / half)
    angle = offset[:, :, None, None].astype(jnp.float32) / wavelength
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x.dtype)
