"""The loss of a batch from its hidden states, of which all logits never exist at once.

Logits, their exponentials and their gradients are the largest arrays of a step by far. Here a few
target tokens at a time are projected, and what the backward pass needs, the gradients of the hidden
states and of the projection, is taken at once: nothing of the size of the vocabulary is kept or
computed twice. The gradient is exact, since the loss is a sum over tokens.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from flax import struct

from archobj_jax.architectures.layers import OutputProjection
from archobj_jax.partitioning.rules import shard_shape
from archobj_jax.shapes import Array, Float, Int, checked
from archobj_jax.training.losses import Loss


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
    """The loss of a batch and its metrics; of the four, `loss` is differentiable.

    Args:
      loss: the loss of a token; its `chunk_tokens` says how many a device projects at a time.
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


def _chunks(loss: Loss, *arrays: Array) -> tuple[Array, ...]:
    """[B, T, …] to [chunks, B, T / chunks, …], with zeros (no weight) behind where need be.

    Rows stay whole, so that each device has chunks of the rows that it holds.
    """
    rows, length = arrays[0].shape[:2]
    tokens = math.prod(shard_shape((rows, length), ("batch", "length")))
    count = min(length, max(1, round(tokens / loss.chunk_tokens)))
    size = -(-length // count)
    count = -(-length // size)

    def chunked(x: Array) -> Array:
        x = jnp.pad(x, ((0, 0), (0, count * size - length), *[(0, 0)] * (x.ndim - 2)))
        return jnp.moveaxis(x.reshape(rows, count, size, *x.shape[2:]), 1, 0)

    return tuple(chunked(x) for x in arrays)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _loss_sums(
    loss: Loss, output: OutputProjection, hidden: Array, targets: Array, weights: Array
) -> LossSums:
    def add(sums: LossSums, chunk: tuple[Array, ...]) -> tuple[LossSums, None]:
        return jax.tree.map(jnp.add, sums, _of_tokens(loss, output, *chunk)), None

    return jax.lax.scan(add, _zero_sums(), _chunks(loss, hidden, targets, weights))[0]


_Gradients = tuple[OutputProjection, Array]


def _forward(
    loss: Loss, output: OutputProjection, hidden: Array, targets: Array, weights: Array
) -> tuple[LossSums, _Gradients]:
    def of_loss(
        output: OutputProjection, hidden: Array, targets: Array, weights: Array
    ) -> tuple[Array, LossSums]:
        sums = _of_tokens(loss, output, hidden, targets, weights)
        return sums.loss, sums

    gradient = jax.grad(of_loss, argnums=(0, 1), has_aux=True)

    def add(
        total: tuple[LossSums, OutputProjection], chunk: tuple[Array, ...]
    ) -> tuple[tuple[LossSums, OutputProjection], Array]:
        (of_output, of_hidden), sums = gradient(output, *chunk)
        return jax.tree.map(jnp.add, total, (sums, of_output)), of_hidden

    zeros = _zero_sums(), jax.tree.map(jnp.zeros_like, output)
    (sums, of_output), of_hidden = jax.lax.scan(add, zeros, _chunks(loss, hidden, targets, weights))
    joined = jnp.moveaxis(of_hidden, 0, 1).reshape(hidden.shape[0], -1, hidden.shape[2])
    return sums, (of_output, joined[:, : hidden.shape[1]])


def _backward(
    loss: Loss, gradients: _Gradients, gradient: LossSums
) -> tuple[OutputProjection, Array, None, None]:
    del loss
    output, hidden = jax.tree.map(lambda x: (x * gradient.loss).astype(x.dtype), gradients)
    return output, hidden, None, None


_loss_sums.defvjp(_forward, _backward)


def _zero_sums() -> LossSums:
    zero = jnp.zeros((), jnp.float32)
    return LossSums(loss=zero, z_loss=zero, correct=zero, weights=zero)
