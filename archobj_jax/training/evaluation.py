"""Held-out loss and next-token accuracy during training (T5X's `train_eval`)."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from archobj_jax.data.loader import EvalBatches
from archobj_jax.training.placement import Placement
from archobj_jax.training.trainer import Sums


def evaluate(
    eval_step: Callable[..., Sums],
    params: Any,
    batches: Mapping[str, EvalBatches],
    placement: Placement,
) -> dict[str, dict[str, float]]:
    """One pass over the held-out batches of each task.

    Args:
      eval_step: jitted `Trainer.eval_step`.
      params: the parameters.
      batches: by task.
      placement: puts a process's rows on the mesh.

    Returns:
      For each task its loss (z-loss included), z-loss and accuracy, means over all weighted target
      tokens, and `target_tokens`, their number.
    """
    results = {}
    for task, task_batches in batches.items():
        parts = [eval_step(params, placement.put(rows)) for rows in task_batches]
        sums = jax.tree.map(lambda *xs: float(sum(xs)), *jax.device_get(parts))
        means = {name: float(value) for name, value in sums.means().items()}
        results[task] = {**means, "target_tokens": sums.weights}
    return results


def mean_loss(results: Mapping[str, Mapping[str, float]]) -> float:
    """The mean over tasks of the held-out loss, by which checkpoints are ranked."""
    return sum(result["loss"] for result in results.values()) / len(results)
