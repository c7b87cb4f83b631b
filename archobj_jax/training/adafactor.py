"""Adafactor exactly as T5X's (Shazeer & Stern 2018), as an optax transformation.

Optax's own differs (order of clipping and scaling, decay offset), and neither treats parameters
stacked over scanned layers as the separate matrices they are; here a leading `layers` axis is
mapped over.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from archobj_jax.shapes import Array

PyTree = Any


class Slots(NamedTuple):
    """Second-moment statistics of one parameter; unused ones are zeros of shape [1]."""

    v_row: Any
    v_col: Any
    v: Any
    m: Any


class AdafactorState(NamedTuple):
    """Updates made so far, and `Slots` of trees shaped like the parameters."""

    count: Any
    slots: Slots


@dataclasses.dataclass(frozen=True)
class AdafactorRule:
    """Hyperparameters, with T5X's names and defaults, and the update of one parameter.

    Attributes:
      decay_rate: exponent c of the second-moment decay 1 - (step + 1)^-c.
      step_offset: subtracted from the step in that decay, to restart it when finetuning.
      clipping_threshold: updates are scaled down to this RMS.
      epsilon1, epsilon2: floors of squared gradients and of the parameter scale.
      multiply_by_parameter_scale: whether the learning rate is relative to the parameter's RMS.
      beta1: momentum, none by default.
      weight_decay_rate: decoupled weight decay, multiplied by the learning rate.
      min_dim_size_to_factor: matrices whose smaller dimension reaches this are factored.
    """

    decay_rate: float = 0.8
    step_offset: int = 0
    clipping_threshold: float | None = 1.0
    epsilon1: float = 1e-30
    epsilon2: float = 1e-3
    multiply_by_parameter_scale: bool = True
    beta1: float | None = None
    weight_decay_rate: float | None = None
    min_dim_size_to_factor: int = 128

    def factored_dims(self, shape: tuple[int, ...]) -> tuple[int, int] | None:
        """The second-largest and largest dimension if the parameter is factored, else None."""
        if len(shape) < 2:
            return None
        order = np.argsort(shape, kind="stable")
        if shape[order[-2]] < self.min_dim_size_to_factor:
            return None
        return int(order[-2]), int(order[-1])

    def init(self, param: Array) -> Slots:
        """Zero statistics; `v_row` drops the largest dimension, `v_col` the second-largest."""
        unused = jnp.zeros((1,), jnp.float32)
        momentum = unused if self.beta1 is None else jnp.zeros(param.shape, jnp.float32)
        dims = self.factored_dims(param.shape)
        if dims is None:
            return Slots(unused, unused, jnp.zeros(param.shape, jnp.float32), momentum)
        second, largest = dims
        row_shape, col_shape = np.delete(param.shape, largest), np.delete(param.shape, second)
        return Slots(jnp.zeros(row_shape), jnp.zeros(col_shape), unused, momentum)

    def update(
        self, gradient: Array, slots: Slots, param: Array, count: Array, learning_rate: Array
    ) -> tuple[Array, Slots]:
        """What to add to the parameter, and its new statistics."""
        decay = 1.0 - (count - self.step_offset + 1.0) ** -self.decay_rate
        gradient = gradient.astype(jnp.float32)
        step, slots = self._precondition(gradient, slots, decay)
        if self.clipping_threshold is not None:
            step = step / jnp.maximum(1.0, _rms(step) / self.clipping_threshold)
        scale = learning_rate
        if self.multiply_by_parameter_scale:
            scale = scale * jnp.maximum(_rms(param), self.epsilon2)
        step = scale * step
        if self.beta1 is not None:
            step = self.beta1 * slots.m + (1.0 - self.beta1) * step
            slots = slots._replace(m=step)
        if self.weight_decay_rate is not None:
            step = step + learning_rate * self.weight_decay_rate * param
        return -step, slots

    def _precondition(self, gradient: Array, slots: Slots, decay: Array) -> tuple[Array, Slots]:
        square = jnp.square(gradient) + self.epsilon1
        dims = self.factored_dims(gradient.shape)
        if dims is None:
            v = decay * slots.v + (1.0 - decay) * square
            return gradient * jax.lax.rsqrt(v), slots._replace(v=v)
        second, largest = dims
        v_row = decay * slots.v_row + (1.0 - decay) * jnp.mean(square, axis=largest)
        v_col = decay * slots.v_col + (1.0 - decay) * jnp.mean(square, axis=second)
        row_axis = second - 1 if second > largest else second
        row_factor = jax.lax.rsqrt(v_row / jnp.mean(v_row, axis=row_axis, keepdims=True))
        step = gradient * jnp.expand_dims(row_factor, largest)
        step = step * jnp.expand_dims(jax.lax.rsqrt(v_col), second)
        return step, slots._replace(v_row=v_row, v_col=v_col)


def adafactor(
    learning_rate: optax.Schedule, rule: AdafactorRule, stacked: PyTree
) -> optax.GradientTransformation:
    """Adafactor on a tree of parameters.

    Args:
      learning_rate: function of the number of updates made.
      rule: hyperparameters.
      stacked: a tree like the parameters; true where the first axis counts scanned layers.
    """

    def mapped(function: Callable, is_stacked: bool) -> Callable:
        return jax.vmap(function) if is_stacked else function

    def init(params: PyTree) -> AdafactorState:
        slots = jax.tree.map(lambda p, s: mapped(rule.init, s)(p), params, stacked)
        return AdafactorState(jnp.zeros((), jnp.int32), _transpose(slots, params, Slots))

    def update(
        gradients: PyTree, state: AdafactorState, params: PyTree
    ) -> tuple[PyTree, AdafactorState]:
        rate = jnp.asarray(learning_rate(state.count), jnp.float32)
        count = state.count.astype(jnp.float32)

        def one(
            gradient: Array, param: Array, is_stacked: bool, *slots: Array
        ) -> tuple[Array, Slots]:
            function = functools.partial(rule.update, count=count, learning_rate=rate)
            return mapped(function, is_stacked)(gradient, Slots(*slots), param)

        both = jax.tree.map(one, gradients, params, stacked, *state.slots)
        updates = jax.tree.map(lambda _, pair: pair[0], params, both)
        slots = jax.tree.map(lambda _, pair: pair[1], params, both)
        return updates, AdafactorState(state.count + 1, _transpose(slots, params, Slots))

    return optax.GradientTransformation(init, update)


def _transpose(tree: PyTree, params: PyTree, slots: type[Slots]) -> Slots:
    """A tree of Slots to Slots of trees."""
    inner = jax.tree.structure(slots(0, 0, 0, 0))
    return jax.tree.transpose(jax.tree.structure(params), inner, tree)


def _rms(x: Array) -> Array:
    return jnp.sqrt(jnp.mean(jnp.square(x)))
