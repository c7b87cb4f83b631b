"""Evaluation during training: held-out loss (T5X's `train_eval`), and metrics (`infer_eval`)."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

from archobj_jax.data import loader
from archobj_jax.data.loader import DatasetConfig
from archobj_jax.evaluation.infer_eval import InferenceEvaluator
from archobj_jax.hosts.activity import ACTIVITY
from archobj_jax.training.chunked_loss import LossSums
from archobj_jax.training.placement import Placement
from archobj_jax.training.state import Blueprint
from archobj_jax.training.trainer import Trainer

Results = dict[str, dict[str, float]]
"""Values by task and name."""


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Held-out batches of each task, and the step that evaluates them."""

    batches: Mapping[str, loader.EvalBatches]
    placement: Placement
    step: Callable[..., LossSums]

    @classmethod
    def of(
        cls, config: DatasetConfig, blueprint: Blueprint, trainer: Trainer, num_batches: int | None
    ) -> "HeldOut":
        """Opens the split of `config`, at most `num_batches` of each task."""
        placement = Placement.of(blueprint.rules, config.batch_size)
        layout = blueprint.architecture.layout
        placement.check_lengths(layout, config.task_feature_lengths)
        batches = loader.eval_batches(
            config,
            layout,
            local_rows=placement.rows,
            num_batches=num_batches,
        )
        return cls(batches, placement, jax.jit(trainer.eval_step(blueprint)))

    def evaluate(self, params: Any) -> Results:
        """One pass: for each task loss (z-loss included), z_loss, accuracy and target_tokens.

        The first three are means over all weighted target tokens.
        """
        results = {}
        for task, batches in self.batches.items():
            parts = []
            for rows in batches:
                parts.append(self.step(params, self.placement.put(rows)))
                ACTIVITY.goes_on()
            sums = jax.tree.map(lambda *xs: float(sum(xs)), *jax.device_get(parts))
            means = {name: float(value) for name, value in sums.means().items()}
            results[task] = {**means, "target_tokens": sums.weights}
        return results


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """All that is evaluated every `period` steps; a part that is None is left out."""

    period: int
    held_out: HeldOut | None
    inference: InferenceEvaluator | None

    @classmethod
    def of(
        cls,
        blueprint: Blueprint,
        trainer: Trainer,
        *,
        train_eval: DatasetConfig | None,
        infer_eval: DatasetConfig | None,
        period: int,
        num_batches: int | None,
    ) -> "Evaluation":
        """Opens the data; `num_batches` of each task at most."""
        held_out = inference = None
        if train_eval is not None:
            held_out = HeldOut.of(train_eval, blueprint, trainer, num_batches)
        if infer_eval is not None:
            examples = None if num_batches is None else num_batches * infer_eval.batch_size
            inference = InferenceEvaluator.of(infer_eval, blueprint, num_examples=examples)
        return cls(period, held_out, inference)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to evaluate on."""
        return self.held_out is None and self.inference is None

    def evaluate(self, params: Any, step: int) -> tuple[dict[str, float], float | None]:
        """Values named `eval/<task>/<name>` and `infer_eval/<task>/<name>`, and the mean loss.

        The mean is over tasks; checkpoints are ranked by it. None without held-out data.
        """
        named: dict[str, float] = {}
        loss = None
        if self.held_out is not None:
            results = self.held_out.evaluate(params)
            named |= _named("eval", results)
            loss = sum(values["loss"] for values in results.values()) / len(results)
        if self.inference is not None:
            named |= _named("infer_eval", self.inference.evaluate(params, step))
        return named, loss


def _named(prefix: str, results: Results) -> dict[str, float]:
    return {
        f"{prefix}/{task}/{name}": value
        for task, values in results.items()
        for name, value in values.items()
    }
