"""The loss of a batch from its hidden states, of which all logits never exist at once.

Logits and their gradients are the largest arrays of a step by far. Here a few target tokens at a
time are projected, and what the backward pass needs, the gradients of the hidden states and of the
projection, is taken at once, so that logits are neither kept nor projected twice (as Liger's fused
linear cross-entropy does, Hsu et al. 2024). The gradient is exact, since the loss is a sum over
tokens.

On a mesh every shard of the batch has a copy of the projection and sums up a gradient of its own;
they are added up once, behind the last chunk. Otherwise each chunk would be a gather and a
reduction of arrays as large as the embedding.
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
"""Hidden states [S, B/S, t, D], targets and loss weights [S, B/S, t] of the S shards of a batch."""


def _chunks(loss: Loss, vocab_size: int, *arrays: Array) -> _Chunk:
    """[B, T, …] to [chunks, S, B/S, T/chunks, …], with zeros (no weight) behind where need be.

    Rows stay whole and where they are.
    """
    rows, length = arrays[0].shape[:2]
    held = shard_shape((rows, length, vocab_size), ("batch", "length", "vocab"))
    count = min(length, max(1, round(4 * math.prod(held) / loss.chunk_bytes)))
    size = -(-length // count)
    count = -(-length // size)

    def chunked(x: Array) -> Array:
        rest = x.shape[2:]
        x = jnp.pad(x, ((0, 0), (0, count * size - length), *[(0, 0)] * len(rest)))
        x = x.reshape(rows // held[0], held[0], count, size, *rest)
        return constrain(jnp.moveaxis(x, 2, 0), (None, "batch", *[None] * (x.ndim - 2)))

    hidden, targets, weights = (chunked(x) for x in arrays)
    return hidden, targets, weights


def _on_each_shard(output: OutputProjection, shards: int) -> OutputProjection:
    """The projection with a leading dimension, which lies as the batch does."""
    axes = ("vocab", "embed") if output.tied else ("embed", "vocab")
    copies = jnp.broadcast_to(output.kernel, (shards, *output.kernel.shape))
    return dataclasses.replace(output, kernel=constrain(copies, ("batch", *axes)))


def _scanned(
    compute: Callable, loss: Loss, output: OutputProjection, *arrays: Array
) -> tuple[PyTree, PyTree]:
    """Sums `compute(loss, output, *chunk)[0]` over chunks, by shards, and stacks its `[1]`."""
    chunks = _chunks(loss, output.vocab_size, *arrays)
    copies = _on_each_shard(output, chunks[0].shape[1])
    computed = jax.vmap(functools.partial(compute, loss))
    first = jax.eval_shape(computed, copies, *jax.tree.map(lambda x: x[0], chunks))[0]

    def add(total: PyTree, chunk: _Chunk) -> tuple[PyTree, PyTree]:
        new, rest = computed(copies, *chunk)
        return jax.tree.map(jnp.add, total, new), rest

    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), first)
    totals, stacked = jax.lax.scan(add, zeros, chunks)
    return jax.tree.map(lambda x: jnp.sum(x, axis=0), totals), stacked


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
    rows, length, features = hidden.shape
    of_hidden = jnp.moveaxis(of_hidden, 0, 2).reshape(rows, -1, features)[:, :length]
    return sums, (of_output, constrain(of_hidden, ("batch", "length", "activation_embed")))


def _backward(
    loss: Loss, gradients: _Gradients, gradient: LossSums
) -> tuple[OutputProjection, Array, None, None]:
    del loss
    output, hidden = jax.tree.map(lambda x: (x * gradient.loss).astype(x.dtype), gradients)
    return output, hidden, None, None


_loss_sums.defvjp(_forward, _backward)
