"""Metrics of generated and scored targets during training (T5X's `infer_eval`)."""

import dataclasses
from typing import Any

import seqio

from archobj_jax.data import registry, vocabularies
from archobj_jax.data.loader import DatasetConfig
from archobj_jax.errors import UserError
from archobj_jax.evaluation import seqio_tasks
from archobj_jax.evaluation.results import TaskResult
from archobj_jax.evaluation.seqio_tasks import Reading
from archobj_jax.evaluation.statistics import Bootstrap
from archobj_jax.evaluation.task_evaluation import PreparedTask, prepare
from archobj_jax.inference.placing import row_shards
from archobj_jax.inference.predictor import Predictor
from archobj_jax.inference.runner import Runner
from archobj_jax.training.state import Blueprint


@dataclasses.dataclass(frozen=True)
class InferenceEvaluator:
    """Evaluates the tasks of a mixture that are ranked or have metric functions.

    Attributes:
      tasks: with their examples.
      blueprint: of the model.
      vocabulary: of the tasks.
      batch_tokens: about how many tokens a device reads at a time.
    """

    tasks: tuple[PreparedTask, ...]
    blueprint: Blueprint
    vocabulary: seqio.Vocabulary
    batch_tokens: int

    @classmethod
    def of(
        cls, config: DatasetConfig, blueprint: Blueprint, *, num_examples: int | None
    ) -> "InferenceEvaluator":
        """Reads the examples of `config`'s split, at most `num_examples` of each task.

        Raises:
          UserError: no task is ranked or has metric functions, the lengths lack inputs or targets,
            or an example cannot be evaluated.
        """
        provider = registry.find(config.mixture_or_task_name, config.module)
        tasks = list(registry.tasks(provider, config.split))
        lengths = dict(config.task_feature_lengths)
        if set(lengths) != {"inputs", "targets"}:
            raise UserError(
                f"infer_eval of '{provider.name}' needs task_feature_lengths of 'inputs' and "
                f"'targets', got {lengths}."
            )
        vocabulary = registry.vocabulary(tasks[0])
        vocabularies.load(vocabulary, config.cache_dir)
        reading = Reading(config.split, lengths, num_examples)
        chosen = [task for task in tasks if seqio_tasks.kind_of(task, reading) != "loss"]
        if not chosen:
            raise UserError(
                f"'{provider.name}' has no task with metric functions, so infer_eval has nothing "
                "to compute; set train.train.infer_eval_dataset = None."
            )
        prepared = tuple(prepare(task, reading, unconditional=False) for task in chosen)
        shards = row_shards(blueprint.rules)
        batch_tokens = -(-config.batch_size // shards) * sum(lengths.values())
        return cls(prepared, blueprint, vocabulary, batch_tokens)

    def evaluate(self, params: Any, step: int) -> dict[str, dict[str, float]]:
        """The metrics of each task, by name, with `params`."""
        predictor = Predictor(self.blueprint, params, self.vocabulary, step)
        runner = Runner(predictor, batch_tokens=self.batch_tokens, quiet=True)
        results = (task.evaluate(runner, Bootstrap(resamples=1)) for task in self.tasks)
        return {result.name: _values(result) for result in results}


def _values(result: TaskResult) -> dict[str, float]:
    """Metrics; of ranked tasks with what to hold an accuracy against."""
    values = {name: metric.value for name, metric in result.metrics.items()}
    if result.kind == "rank":
        assert result.chance is not None
        values |= {"chance": result.chance, "examples": float(result.counts["examples"])}
    return values
