"""The loss of a batch from its hidden states, of which all logits never exist at once.

Logits and their gradients are the largest arrays of a step by far. Here a few target tokens at a
time are projected, and what the backward pass needs, the gradients of the hidden states and of the
projection, is taken at once, so that logits are neither kept nor projected twice (as Liger's fused
linear cross-entropy does, Hsu et al. 2024). The gradient is exact, since the loss is a sum over
tokens.

On a mesh every shard of the batch (of its rows, and of their length) has a copy of the projection
and sums up a gradient of its own; they are added up once, behind the last chunk. Otherwise each
chunk would be a gather and a reduction of arrays as large as the embedding.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from archobj_jax.architectures.layers import OutputProjection
from archobj_jax.partitioning.rules import constrain, shard_shape
from archobj_jax.shapes import Array, Float, Int, checked
from archobj_jax.training.losses import Loss

PyTree = Any

_SHARDS = ("batch", "length")
"""Logical axes of the leading dimensions of what each shard of a batch has of its own."""


@struct.dataclass
class LossSums:
    """Sums over the loss weights of a batch, float32 scalars."""

    loss: Array
    z_loss: Array
    correct: Array
    weights: Array

    def means(self) -> dict[str, Array]:
        """Loss (z-loss included), z-loss and accuracy for each weighted target token."""
        weights = jnp.maximum(self.weights, 1.0)
        return {
            "loss": self.loss / weights,
            "z_loss": self.z_loss / weights,
            "accuracy": self.correct / weights,
        }


@checked
def loss_sums(
    loss: Loss,
    output: OutputProjection,
    hidden: Float[Array, "B T D"],
    targets: Int[Array, "B T"],
    weights: Float[Array, "B T"],
) -> LossSums:
    """The loss of a batch and its metrics.

    `loss` is differentiable in `output` and `hidden`; loss weights are data, and so are metrics.

    Args:
      loss: the loss of a token; its `chunk_bytes` says how many logits a device has at a time.
      output: makes logits.
      hidden: final hidden states.
      targets: tokens to predict.
      weights: loss weights.
    """
    made = _loss_sums(loss, output, hidden, targets, weights)
    return dataclasses.replace(
        made, z_loss=jax.lax.stop_gradient(made.z_loss), correct=jax.lax.stop_gradient(made.correct)
    )


def _of_tokens(
    loss: Loss, output: OutputProjection, hidden: Array, targets: Array, weights: Array
) -> LossSums:
    losses = loss.token_losses(output(hidden), targets)
    return LossSums(
        loss=jnp.sum(losses.total * weights),
        z_loss=jnp.sum(losses.z_loss * weights),
        correct=jnp.sum(losses.correct * weights),
        weights=jnp.sum(weights),
    )


_Chunk = tuple[Array, Array, Array]
"""Hidden states [R, S, B/R, t, D], targets and loss weights [R, S, B/R, t] of a batch in R x S
shards: of its rows, and of their length."""


def _chunks(loss: Loss, vocab_size: int, *arrays: Array) -> _Chunk:
    """[B, T, …] to [chunks, R, S, B/R, t, …], with zeros (no weight) behind where need be.

    Tokens stay where they are.
    """
    rows, length = arrays[0].shape[:2]
    held = shard_shape((rows, length, vocab_size), ("batch", "length", "vocab"))
    count = min(held[1], max(1, round(4 * math.prod(held) / loss.chunk_bytes)))
    size = -(-held[1] // count)
    count = -(-held[1] // size)

    def chunked(x: Array) -> Array:
        rest = x.shape[2:]
        x = x.reshape(rows // held[0], held[0], length // held[1], held[1], *rest)
        x = jnp.pad(x, (*[(0, 0)] * 3, (0, count * size - held[1]), *[(0, 0)] * len(rest)))
        x = x.reshape(*x.shape[:3], count, size, *rest)
        x = jnp.moveaxis(x, (3, 2), (0, 2))
        return constrain(x, (None, *_SHARDS, *[None] * (x.ndim - 3)))

    hidden, targets, weights = (chunked(x) for x in arrays)
    return hidden, targets, weights


def _of_chunks(x: Array, length: int) -> Array:
    """[chunks, R, S, B/R, t, D] back to [B, T, D]."""
    _, rows, parts, held, _, features = x.shape
    x = jnp.moveaxis(x, (0, 2), (3, 2))
    x = x.reshape(rows, held, parts, -1, features)[:, :, :, : length // parts]
    return constrain(
        x.reshape(rows * held, length, features), ("batch", "length", "activation_embed")
    )


def _on_each_shard(output: OutputProjection, shards: tuple[int, ...]) -> OutputProjection:
    """The projection with leading dimensions [R, S], which lie as the batch does."""
    axes = ("vocab", "embed") if output.tied else ("embed", "vocab")
    copies = jnp.broadcast_to(output.kernel, (*shards, *output.kernel.shape))
    return dataclasses.replace(output, kernel=constrain(copies, (*_SHARDS, *axes)))


def _scanned(
    compute: Callable, loss: Loss, output: OutputProjection, *arrays: Array
) -> tuple[PyTree, PyTree]:
    """Sums `compute(loss, output, *chunk)[0]` over chunks, by shards, and stacks its `[1]`."""
    chunks = _chunks(loss, output.vocab_size, *arrays)
    copies = _on_each_shard(output, chunks[1].shape[1:3])
    computed = jax.vmap(jax.vmap(functools.partial(compute, loss)))
    first = jax.eval_shape(computed, copies, *jax.tree.map(lambda x: x[0], chunks))[0]

    def add(total: PyTree, chunk: _Chunk) -> tuple[PyTree, PyTree]:
        new, rest = computed(copies, *chunk)
        return jax.tree.map(jnp.add, total, new), rest

    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), first)
    totals, stacked = jax.lax.scan(add, zeros, chunks)
    return jax.tree.map(lambda x: jnp.sum(x, axis=(0, 1)), totals), stacked


def _values(
    loss: Loss, output: OutputProjection, hidden: Array, targets: Array, weights: Array
) -> tuple[LossSums, None]:
    return _of_tokens(loss, output, hidden, targets, weights), None


def _values_and_gradients(
    loss: Loss, output: OutputProjection, hidden: Array, targets: Array, weights: Array
) -> tuple[tuple[LossSums, OutputProjection], Array]:
    def of_loss(output: OutputProjection, hidden: Array) -> tuple[Array, LossSums]:
        sums = _of_tokens(loss, output, hidden, targets, weights)
        return sums.loss, sums

    (of_output, of_hidden), sums = jax.grad(of_loss, (0, 1), has_aux=True)(output, hidden)
    return (sums, of_output), of_hidden


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _loss_sums(
    loss: Loss, output: OutputProjection, hidden: Array, targets: Array, weights: Array
) -> LossSums:
    return _scanned(_values, loss, output, hidden, targets, weights)[0]


_Gradients = tuple[OutputProjection, Array]


def _forward(
    loss: Loss, output: OutputProjection, hidden: Array, targets: Array, weights: Array
) -> tuple[LossSums, _Gradients]:
    (sums, of_output), of_hidden = _scanned(
        _values_and_gradients, loss, output, hidden, targets, weights
    )
    return sums, (of_output, _of_chunks(of_hidden, hidden.shape[1]))


def _backward(
    loss: Loss, gradients: _Gradients, gradient: LossSums
) -> tuple[OutputProjection, Array, None, None]:
    del loss
    output, hidden = jax.tree.map(lambda x: (x * gradient.loss).astype(x.dtype), gradients)
    return output, hidden, None, None


_loss_sums.defvjp(_forward, _backward)
