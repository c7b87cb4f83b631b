"""The train step and the evaluation step: one of each, for every architecture and objective."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from archobj_jax.errors import UserError
from archobj_jax.partitioning.rules import activated, constrain
from archobj_jax.shapes import Array
from archobj_jax.training.chunked_loss import LossSums, loss_sums
from archobj_jax.training.losses import Loss
from archobj_jax.training.optimizers import Optimizer
from archobj_jax.training.state import Blueprint, TrainState

PyTree = Any
Batch = Mapping[str, Array]

NONFINITE_POLICIES = ("stop", "skip")


@dataclasses.dataclass(frozen=True)
class Trainer:
    """How a step is made (T5X's Trainer).

    Attributes:
      optimizer: makes the optax transformation.
      learning_rate_fn: of the 0-based global step, or of the steps since the schedule began.
      loss: what is minimised.
      num_microbatches: parts of a batch that are run one after another, gradients summed in
        float32; memory falls, numbers do not change but for rounding.
      on_nonfinite: a step whose loss or gradient is not finite changes nothing but step counts,
        and training goes on ("skip") or ends with an error that names the step ("stop").
    """

    optimizer: Optimizer
    learning_rate_fn: optax.Schedule
    loss: Loss = Loss()
    num_microbatches: int = 1
    on_nonfinite: str = "stop"

    def __post_init__(self) -> None:
        if self.on_nonfinite not in NONFINITE_POLICIES:
            raise UserError(
                f"Trainer.on_nonfinite = {self.on_nonfinite!r}: must be one of "
                f"{', '.join(NONFINITE_POLICIES)}."
            )

    def transform(self, blueprint: Blueprint) -> optax.GradientTransformation:
        """The optimizer for the model's parameters: its state, and what it does at its own count.

        `train_step` makes it anew with the learning rate of the step.
        """
        return self.optimizer.build(self.learning_rate_fn, blueprint.stacked())

    def train_step(self, blueprint: Blueprint, seed: int, *, schedule_start: int = 0) -> Callable:
        """The step `(state, batch) -> (state, metrics)`, to be jitted with its state donated.

        The learning rate is that of the global step less `schedule_start`, whatever the optimizer
        has counted: its statistics may have been begun anew.

        All randomness of step n comes from (seed, n, microbatch). Metrics are float32 scalars:
        loss, z_loss, accuracy, learning_rate, gradient_norm, update_norm, parameter_norm,
        target_tokens, tokens, finite.
        """

        def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
            with activated(blueprint.rules):
                rate = jnp.asarray(self.learning_rate_fn(state.step - schedule_start), jnp.float32)
                transform = self.optimizer.build(lambda _: rate, blueprint.stacked())
                key = jax.random.fold_in(jax.random.key(seed), state.step)
                sums, gradients = self._sums_and_gradients(blueprint, state.params, batch, key)
                updates, opt_state = transform.update(gradients, state.opt_state, state.params)
                params = optax.apply_updates(state.params, updates)
                norms = {
                    "gradient_norm": optax.tree.norm(gradients),
                    "update_norm": optax.tree.norm(updates),
                    "parameter_norm": optax.tree.norm(state.params),
                }
                finite = jnp.isfinite(sums.loss) & jnp.isfinite(norms["gradient_norm"])
                kept = jax.tree.map(
                    functools.partial(_kept_if, finite),
                    (params, opt_state),
                    (state.params, state.opt_state),
                )
                metrics = {
                    **sums.means(),
                    **norms,
                    "learning_rate": rate,
                    "target_tokens": sums.weights,
                    "tokens": _tokens(batch),
                    "finite": finite.astype(jnp.float32),
                }
                return TrainState(state.step + 1, *kept), metrics

        return step

    def eval_step(self, blueprint: Blueprint) -> Callable:
        """The step `(params, batch) -> LossSums`, without dropout, to be jitted."""

        def step(params: PyTree, batch: Batch) -> LossSums:
            with activated(blueprint.rules):
                return self._sums(blueprint, params, batch, None)

        return step

    def _sums(
        self, blueprint: Blueprint, params: PyTree, batch: Batch, key: Array | None
    ) -> LossSums:
        model = blueprint.bind(params)
        return loss_sums(
            self.loss,
            model.output(),
            model.hidden(batch, key=key),
            batch["decoder_target_tokens"],
            batch["decoder_loss_weights"],
        )

    def _sums_and_gradients(
        self, blueprint: Blueprint, params: PyTree, batch: Batch, key: Array
    ) -> tuple[LossSums, PyTree]:
        dropout = blueprint.architecture.network.dropout_rate > 0.0

        def loss_sum(params: PyTree, batch: Batch, key: Array) -> tuple[Array, LossSums]:
            sums = self._sums(blueprint, params, batch, key if dropout else None)
            return sums.loss, sums

        gradient = jax.grad(loss_sum, has_aux=True)
        count = self.num_microbatches
        if count == 1:
            gradients, sums = gradient(params, batch, jax.random.fold_in(key, 0))
        else:
            parts = jax.tree.map(lambda x: _split_rows(x, count), batch)
            first = jax.eval_shape(gradient, params, jax.tree.map(lambda x: x[0], parts), key)
            zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), first)

            def accumulate(total: PyTree, part: tuple[Array, Batch]) -> tuple[PyTree, None]:
                index, rows = part
                new = gradient(params, rows, jax.random.fold_in(key, index))
                return jax.tree.map(jnp.add, total, new), None

            indices = jnp.arange(count, dtype=jnp.uint32)
            (gradients, sums), _ = jax.lax.scan(accumulate, zeros, (indices, parts))
        if self.loss.normalization == "tokens":
            scale = 1.0 / jnp.maximum(sums.weights, 1.0)
            gradients = jax.tree.map(lambda g: g * scale, gradients)
        return sums, gradients


def _tokens(batch: Batch) -> Array:
    """Tokens that are no padding, an encoder's included; float32."""
    filled = [batch[name] > 0 for name in batch if name.endswith("_segment_ids")]
    return sum((jnp.sum(f, dtype=jnp.float32) for f in filled), jnp.zeros(()))


def _kept_if(finite: Array, new: Array, old: Array) -> Array:
    """`new` if the step was finite; counts go on in any case, as the global step does."""
    if jnp.issubdtype(new.dtype, jnp.integer):
        return new
    return jnp.where(finite, new, old)


def _split_rows(x: Array, count: int) -> Array:
    """[B, L] to [count, B / count, L]; strided, so that every device keeps the rows it has."""
    parts = x.reshape(x.shape[0] // count, count, *x.shape[1:]).swapaxes(0, 1)
    return constrain(parts, (None, "batch", "length"))
