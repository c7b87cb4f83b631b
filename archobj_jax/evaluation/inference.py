"""Metrics of generated and scored targets (T5X's `infer_eval`), computed by SeqIO's Evaluator.

SeqIO reads the tasks, decodes what the model wrote, postprocesses, and calls the tasks' metric
functions; this gives it the model.
"""

import contextlib
import dataclasses
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import seqio
import tensorflow as tf

from archobj_jax.data import registry, vocabularies
from archobj_jax.data.loader import DatasetConfig
from archobj_jax.errors import UserError
from archobj_jax.evaluation.predictor import Predictor
from archobj_jax.objectives import Example
from archobj_jax.training.state import Blueprint


@dataclasses.dataclass(frozen=True)
class InferenceEvaluator:
    """Evaluates the tasks of a mixture that have metric functions.

    Attributes:
      evaluator: SeqIO's, which holds the examples.
      blueprint: of the model.
      vocabulary: of the tasks.
      batch_size: examples at a time.
      max_new_tokens: the tasks' target length.
    """

    evaluator: seqio.Evaluator
    blueprint: Blueprint
    vocabulary: seqio.Vocabulary
    batch_size: int
    max_new_tokens: int

    @classmethod
    def of(
        cls, config: DatasetConfig, blueprint: Blueprint, *, num_examples: int | None
    ) -> "InferenceEvaluator":
        """Reads the examples of `config`'s split, at most `num_examples` of each task.

        Raises:
          UserError: no task has metric functions, the lengths lack inputs or targets, or several
            processes run.
        """
        if jax.process_count() > 1:
            raise UserError(
                "infer_eval runs in one process only; leave train.infer_eval_dataset unset and "
                "evaluate the checkpoints."
            )
        provider = registry.find(config.mixture_or_task_name, config.module)
        tasks = list(registry.tasks(provider, config.split))
        lengths = dict(config.task_feature_lengths)
        if set(lengths) != {"inputs", "targets"}:
            raise UserError(
                f"infer_eval of '{provider.name}' needs task_feature_lengths of 'inputs' and "
                f"'targets', got {lengths}."
            )
        if not any(task.metric_objs for task in tasks):
            raise UserError(
                f"'{provider.name}' has no task with metric functions, so infer_eval has nothing "
                "to compute; set train.train.infer_eval_dataset = None."
            )
        vocabulary = registry.vocabulary(tasks[0])
        vocabularies.load(vocabulary, config.cache_dir)
        try:
            with _seqio_warnings_muted():
                evaluator = seqio.Evaluator(
                    provider.name,
                    # Only a carrier of inputs and targets: our own layout makes the arrays.
                    feature_converter=seqio.EncDecFeatureConverter(pack=False),
                    eval_split=config.split,
                    sequence_length=lengths,
                    num_examples=num_examples,
                    seed=config.seed,
                    async_compute_metrics=False,
                )
        except tf.errors.OpError as error:
            # What a source raises inside tf.data arrives as a TensorFlow error; it is kept.
            problems = (getattr(task.source, "problem", None) for task in tasks)
            raise next(filter(None, problems), error) from error
        return cls(evaluator, blueprint, vocabulary, config.batch_size, lengths["targets"])

    def evaluate(self, params: Any, step: int) -> dict[str, dict[str, float]]:
        """The metrics of each task, by name, with `params`."""
        predictor = Predictor(self.blueprint, params, self.vocabulary, step)

        def predict(dataset: Iterable) -> list[tuple[int, list[int]]]:
            outputs = []
            for indices, examples in self._batches(dataset):
                rows = predictor.generate_tokens(
                    [example["inputs"] for example in examples], max_new_tokens=self.max_new_tokens
                )
                outputs += [(i, row.tolist()) for i, row in zip(indices, rows, strict=False)]
            return outputs

        def score(dataset: Iterable) -> list[tuple[int, float]]:
            outputs = []
            for indices, examples in self._batches(dataset):
                scores = predictor.score_tokens(examples)
                outputs += [(i, s.total) for i, s in zip(indices, scores, strict=False)]
            return outputs

        metrics, _ = self.evaluator.evaluate(
            compute_metrics=True, step=step, predict_fn=predict, score_fn=score
        )
        return {
            task: {name: float(value) for name, value in values.items()}
            for task, values in metrics.result().items()
        }

    def _batches(self, dataset: Iterable) -> Iterator[tuple[list[int], list[Example]]]:
        """Indices and examples; copies fill the last batch, so that one shape serves."""
        indices: list[int] = []
        examples: list[Example] = []
        for index, features in dataset.as_numpy_iterator():  # type: ignore[attr-defined]
            indices.append(int(index))
            examples.append(_example(features))
            if len(examples) == self.batch_size:
                yield indices, examples
                indices, examples = [], []
        if examples:
            yield indices, examples + [examples[-1]] * (self.batch_size - len(examples))


@contextlib.contextmanager
def _seqio_warnings_muted() -> Iterator[None]:
    """Drops advice that is not for our users: they bind the lengths, and results go to our logs."""
    logger = logging.getLogger("absl")

    def kept(record: logging.LogRecord) -> bool:
        return f"{os.sep}seqio{os.sep}" not in record.pathname

    logger.addFilter(kept)
    try:
        yield
    finally:
        logger.removeFilter(kept)


def _example(features: Mapping[str, np.ndarray]) -> Example:
    inputs, targets = features["encoder_input_tokens"], features["decoder_target_tokens"]
    return {"inputs": inputs[inputs > 0], "targets": targets[targets > 0]}
