"""Attention a few heads and rows at a time, so that probabilities stay on the chip.

Of logits, probabilities and their gradients there is never more than a chunk, which the compiler
keeps in on-chip memory (CMEM or VMEM of a TPU, caches of a CPU) where whole ones would go through
HBM several times. As in FlashAttention (Dao et al. 2022) the forward pass keeps the output and two
statistics of each query, and the backward pass computes probabilities again; keys are not split, as
a row of logits is short beside the chunk.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from archobj_jax.architectures.attention_parts import (
    MASKED_LOGIT,
    Dropout,
    Structure,
    dropped,
    grouped,
    product,
)
from archobj_jax.architectures.masks import Mask, Places
from archobj_jax.architectures.network import ATTENDED, NetworkConfig
from archobj_jax.architectures.products import transposed_product
from archobj_jax.errors import UserError
from archobj_jax.partitioning.rules import cut_along, mapped, row_shards, shard_shape
from archobj_jax.shapes import Array, Float, checked

CHUNK_BYTES = 32 * 2**20
"""Of the float32 logits of a chunk. A v4's CMEM is 128 MiB, and the backward pass holds three."""

_QUERIES = ("batch", "length")
_KEYS = ("batch", "kv_length")
_HEADS = ("batch", "heads", "length", "kv")
_GROUPS = ("batch", "kv_heads", "kv_length", "kv")
_PAIRS = ("batch", "heads", "length", "kv_length")
_STATISTICS = ("batch", "heads", None, "length")


@dataclasses.dataclass(frozen=True)
class ChunkedAttention:
    """Loops over chunks; does everything.

    Attributes:
      chunk_bytes: of the float32 logits of a chunk, at most, but for one head of one row.
    """

    chunk_bytes: int = CHUNK_BYTES

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
        """See `AttentionKernel`. H/G query heads in a row share a key-value head."""
        rows, length, heads, _ = query.shape
        if both := {*cut_along(length, "length")} & {*cut_along(heads, "heads")}:
            raise UserError(
                f"Partitioner.rules lay 'length' and 'heads' both on {', '.join(sorted(both))}, "
                "which NetworkConfig.attention_kernel = 'chunked' cannot do; lay 'length' on "
                "'sequence'."
            )
        kept = None if dropout is None else dropout.kept(rows, heads, key.shape[1])
        query, key, value = (jnp.swapaxes(x, 1, 2) for x in (query, key, value))
        parts = heads // shard_shape(query.shape, _HEADS)[1]
        if key.shape[1] // shard_shape(key.shape, _GROUPS)[1] != parts:
            # Shared heads lie whole on devices that have some of the query heads.
            key, value = (jnp.repeat(x, heads // x.shape[1], axis=1) for x in (key, value))
        how = _How(structure.mask, self.chunk_bytes)
        mixed = _attend(how, query, key, value, bias, structure.query, structure.key, kept)
        return jnp.swapaxes(mixed, 1, 2)


@dataclasses.dataclass(frozen=True)
class _How:
    mask: Mask
    chunk_bytes: int


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(
    how: _How,
    query: Float[Array, "B H L K"],
    key: Float[Array, "B G S K"],
    value: Float[Array, "B G S K"],
    bias: Float[Array, "_ H L S"] | None,
    query_places: Places,
    key_places: Places,
    kept: Float[Array, "B H 1 S"] | None,
) -> Float[Array, "B H L K"]:
    return _attend_forward(how, query, key, value, bias, query_places, key_places, kept)[0]


_READ = (_HEADS, _GROUPS, _GROUPS, _PAIRS, _QUERIES, _KEYS, ("batch", "heads", None, "kv_length"))
"""How the arguments of `_attend` lie."""


def _attend_forward(how: _How, *read: Any) -> tuple[Array, tuple]:
    shape = read[0].shape
    statistics = ((*shape[:2], 2, shape[2]), _STATISTICS)
    run = mapped(
        functools.partial(_forward, how), read, _READ, results=((shape, _HEADS), statistics)
    )
    mixed, statistic = (checkpoint_name(x, ATTENDED) for x in run(*read))
    return mixed, (*read, mixed, statistic)


def _attend_backward(how: _How, residuals: tuple, gradient: Array) -> tuple[Any, ...]:
    query, key, value, bias = residuals[:4]
    results = [(x.shape, axes) for x, axes in zip((query, key, value), _READ, strict=False)]
    if bias is not None:
        # Of a bias that all rows share, each device has the gradient of its rows.
        shards = max(bias.shape[0], row_shards(query.shape[0]))
        results.append(((shards, *bias.shape[1:]), _PAIRS))
    read = (*residuals, gradient)
    axes = (*_READ, _HEADS, _STATISTICS, _HEADS)
    # Where queries lie on several devices, each has the gradients of keys that its own bring about.
    parts = cut_along(query.shape[2], "length")

    def run(*read: Any) -> tuple[Array, ...]:
        of_query, of_key, of_value, *of_bias = _backward(how, *read)
        if parts:
            of_key, of_value = lax.psum((of_key, of_value), parts)
        return (of_query, of_key, of_value, *of_bias)

    of_inputs = mapped(run, read, axes, results=results)(*read)
    of_bias = None
    if bias is not None:
        of_bias = of_inputs[3].reshape(bias.shape[0], -1, *bias.shape[1:]).sum(axis=1)
        of_bias = of_bias.astype(bias.dtype)
    return (*of_inputs[:3], of_bias, None, None, None)


_attend.defvjp(_attend_forward, _attend_backward)


def _forward(
    how: _How,
    query: Array,
    key: Array,
    value: Array,
    bias: Array | None,
    query_places: Places,
    key_places: Places,
    kept: Array | None,
) -> tuple[Array, Array]:
    """The output, and [B, H, 2, L] the largest logit of each query and the sum of exp(logits - it).

    They are kept apart, since float32 cannot hold the logarithm beside a logit of -1e10.
    """
    chunks = _Chunks.of(query, key, how.chunk_bytes)

    def step(row: Array, group: Array, made: tuple[Array, Array]) -> tuple[Array, Array]:
        take = functools.partial(chunks.taken, row, group)
        logits, _ = _logits(how, take, query, key, bias, query_places, key_places)
        peak = jnp.max(logits, axis=-1, keepdims=True)
        exponential = jnp.exp(logits - peak)
        total = jnp.sum(exponential, axis=-1, keepdims=True)
        weights = dropped(exponential * (1.0 / total), take(kept))
        mixed = product(weights.astype(value.dtype), take(value), 2).reshape(take(query).shape)
        statistics = jnp.concatenate([peak, total], axis=-1)
        new = (mixed, jnp.swapaxes(statistics, 2, 3))
        return tuple(chunks.put(row, group, x, y) for x, y in zip(made, new, strict=True))  # type: ignore[return-value]

    empty = (
        lax.empty(query.shape, value.dtype),
        lax.empty((*query.shape[:2], 2, query.shape[2]), jnp.float32),
    )
    return chunks.loop(lambda group, made: chunks.over_rows(group, step, made), empty)


def _backward(
    how: _How,
    query: Array,
    key: Array,
    value: Array,
    bias: Array | None,
    query_places: Places,
    key_places: Places,
    kept: Array | None,
    mixed: Array,
    statistics: Array,
    gradient: Array,
) -> tuple[Array, ...]:
    """The gradients of query, key, value and, if there is one, bias (float32), as `dense_attention`
    has them; the bias's is summed from those of logits in the dtype of queries."""
    chunks = _Chunks.of(query, key, how.chunk_bytes)
    groups = chunks.groups

    def step(row: Array, group: Array, made: tuple[Array, ...]) -> tuple[Array, ...]:
        take = functools.partial(chunks.taken, row, group)
        logits, allowed = _logits(how, take, query, key, bias, query_places, key_places)
        peak, total = (x[..., None] for x in jnp.unstack(take(statistics), axis=2))
        # Barriers: computed once, where each product would do it again in its own fusion.
        weights = lax.optimization_barrier(jnp.exp(logits - peak) * (1.0 / total))
        outward = take(gradient)
        of_value = transposed_product(
            grouped(dropped(weights, take(kept)).astype(value.dtype), groups),
            grouped(outward, groups),
            batch_dims=2,
        )
        of_weights = dropped(product(outward, take(value), 3).reshape(weights.shape), take(kept))
        through = outward.astype(jnp.float32) * take(mixed).astype(jnp.float32)
        of_logits = weights * (of_weights - jnp.sum(through, axis=-1, keepdims=True))
        of_logits = jnp.where(allowed, of_logits, 0.0)
        low = lax.optimization_barrier(of_logits.astype(query.dtype))
        of_query = product(low, take(key), 2).reshape(take(query).shape)
        of_key = transposed_product(
            grouped(low, groups), grouped(take(query), groups), batch_dims=2
        )
        new = (of_query, of_key, of_value)
        put = tuple(chunks.put(row, group, x, y) for x, y in zip(made, new, strict=False))
        return put if bias is None else (*put, chunks.added(row, made[3], low.astype(jnp.float32)))

    def of_group(group: Array, made: tuple[Array, ...]) -> tuple[Array, ...]:
        if bias is None:
            return chunks.over_rows(group, step, made)
        heads = (bias.shape[0], chunks.heads, *bias.shape[2:])
        *others, of_bias = made
        begun = (*others, jnp.zeros(heads, jnp.float32))
        *others, of_heads = chunks.over_rows(group, step, begun)
        at = (0, group * chunks.heads, 0, 0)
        return (*others, lax.dynamic_update_slice(of_bias, of_heads, at))

    empty = tuple(lax.empty(x.shape, x.dtype) for x in (query, key, value))
    if bias is not None:
        empty = (*empty, lax.empty(bias.shape, jnp.float32))
    return chunks.loop(of_group, empty)


def _logits(
    how: _How,
    take: Callable[[Any], Any],
    query: Array,
    key: Array,
    bias: Array | None,
    query_places: Places,
    key_places: Places,
) -> tuple[Array, Array]:
    """Logits of a chunk, and where attention is allowed."""
    if bias is not None and bias.shape[0] not in (1, query.shape[0]):
        raise ValueError(f"a bias of {bias.shape[0]} rows for {query.shape[0]} on each device")
    allowed = how.mask(take(query_places), take(key_places))[:, None]
    mine = take(query)
    logits = product(mine, take(key), 3).reshape(*mine.shape[:3], key.shape[2])
    if bias is not None:
        logits = logits + take(bias).astype(jnp.float32)
    return jnp.where(allowed, logits, MASKED_LOGIT), allowed


@dataclasses.dataclass(frozen=True)
class _Chunks:
    """How what a device holds is cut: all heads of as many rows as fit, else some of one row's.

    Attributes:
      rows, groups: of a chunk.
      sharing: query heads of a group.
      all_rows, all_groups: of the device.
    """

    rows: int
    groups: int
    sharing: int
    all_rows: int
    all_groups: int

    @classmethod
    def of(cls, query: Array, key: Array, chunk_bytes: int) -> "_Chunks":
        """Cuts queries [B, H, L, K] that read keys [B, G, S, K]."""
        rows, heads, length, _ = query.shape
        groups, source = key.shape[1:3]
        of_group = 4 * length * source * (heads // groups)
        some = _divisor(groups, chunk_bytes // of_group)
        whole = _divisor(rows, chunk_bytes // (of_group * groups)) if some == groups else 1
        return cls(whole, some, heads // groups, rows, groups)

    @property
    def heads(self) -> int:
        """Query heads of a chunk."""
        return self.groups * self.sharing

    def taken(self, row: Array, group: Array, x: Any) -> Any:
        """A chunk's part of arrays [B, H or G, …], and of places [B, L]; of one row, if they have
        but one, it is that."""

        def taken(x: Array) -> Array:
            start: list[Any] = [0] * x.ndim
            size = list(x.shape)
            if x.shape[0] > 1:
                start[0], size[0] = row * self.rows, self.rows
            if x.ndim > 2:
                start[1], size[1] = self._heads(group, x.shape[1])
            return lax.dynamic_slice(x, start, size)

        return jax.tree.map(taken, x)

    def put(self, row: Array, group: Array, whole: Array, part: Array) -> Array:
        """`whole` with a chunk's part of it, which `taken` would take."""
        head, _ = self._heads(group, whole.shape[1])
        return lax.dynamic_update_slice(
            whole, part.astype(whole.dtype), (row * self.rows, head, 0, 0)
        )

    def added(self, row: Array, of_bias: Array, of_logits: Array) -> Array:
        """The gradient of a chunk's heads of the bias, with that of some rows."""
        if of_bias.shape[0] == 1:
            return of_bias + jnp.sum(of_logits, axis=0, keepdims=True)
        return lax.dynamic_update_slice(of_bias, of_logits, (row * self.rows, 0, 0, 0))

    def _heads(self, group: Array, there: int) -> tuple[Array, int]:
        each = self.groups * (there // self.all_groups)
        return group * each, each

    def loop(self, body: Callable[[Array, Any], Any], made: Any) -> Any:
        """`body(group, made)` for all chunks of heads."""
        return _loop(self.all_groups // self.groups, body, made)

    def over_rows(self, group: Array, body: Callable[[Array, Array, Any], Any], made: Any) -> Any:
        """`body(row, group, made)` for all chunks of rows."""
        steps = self.all_rows // self.rows
        return _loop(steps, lambda row, made: body(row, group, made), made)


def _loop(steps: int, body: Callable[[Array, Any], Any], made: Any) -> Any:
    """`body(0, made)` and so on.

    No `fori_loop`: that is a scan, of which differentiation takes out what does not depend on the
    layer, and so would keep the masks of all chunks.
    """

    def step(state: tuple[Array, Any]) -> tuple[Array, Any]:
        index, made = state
        return index + 1, body(index, made)

    start = jnp.zeros((), jnp.int32)
    return lax.while_loop(lambda state: state[0] < steps, step, (start, made))[1]


def _divisor(number: int, limit: int) -> int:
    """The largest divisor of `number` that is at most `limit`, at least 1."""
    return max(d for d in range(1, number + 1) if number % d == 0 and d <= max(1, limit))
