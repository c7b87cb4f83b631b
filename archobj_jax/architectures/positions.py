"""How attention knows positions: T5's relative position buckets, and rotary embeddings."""

import math

import jax
import jax.numpy as jnp
from flax import nnx

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
        return looked_up(tables.astype(dtype), bucket)


@checked
def looked_up(
    tables: Float[Array, "_ H N"], bucket: Int[Array, "_ L S"]
) -> Float[Array, "_ H L S"]:
    """Every pair's entry of each table (for several tables, or several rows of buckets).

    By a product with unit vectors, since TPUs gather, and scatter its gradient, an entry at a time.
    """
    units = jax.nn.one_hot(bucket, tables.shape[2], dtype=tables.dtype, axis=1)
    exact = None if tables.dtype == jnp.bfloat16 else jax.lax.Precision.HIGHEST
    found = jnp.einsum("thn,rnls->trhls", tables, units, precision=exact)
    return found.reshape(-1, *found.shape[2:])


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
