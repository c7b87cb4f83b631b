"""Metrics of generated and scored targets, computed by SeqIO's Evaluator.

SeqIO reads the task, decodes what the model wrote, postprocesses, and calls the task's metric
functions; this gives it the model.
"""

import contextlib
import dataclasses
import itertools
import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import seqio
import tensorflow as tf

from archobj_jax.errors import MachineError, UserError
from archobj_jax.evaluation import aggregation, seqio_tasks
from archobj_jax.evaluation.examples import ScoredExample
from archobj_jax.evaluation.results import Metric, TaskResult
from archobj_jax.evaluation.seqio_tasks import Reading
from archobj_jax.evaluation.statistics import Bootstrap
from archobj_jax.inference.decoding import Generation
from archobj_jax.inference.questions import Question
from archobj_jax.inference.runner import Runner

_LOWER_IS_BETTER = ("loss", "perplexity", "error", "distance")


@dataclasses.dataclass(frozen=True)
class MetricTask:
    """A task with metric functions.

    Attributes:
      about: the task.
      task: SeqIO's.
      evaluator: SeqIO's, which holds the examples.
      truncated: whether SeqIO cut the inputs or targets of each.
      max_new_tokens: the task's target length.
    """

    about: aggregation.About
    task: seqio.Task
    evaluator: seqio.Evaluator
    truncated: tuple[bool, ...]
    max_new_tokens: int

    @classmethod
    def of(cls, task: seqio.Task, reading: Reading) -> "MetricTask":
        """Reads the examples.

        Raises:
          UserError, MachineError: what reading them raises.
        """
        try:
            with _seqio_warnings_muted():
                evaluator = seqio.Evaluator(
                    task.name,
                    # Only a carrier of inputs and targets: our own layouts make the arrays.
                    feature_converter=seqio.EncDecFeatureConverter(pack=False),
                    eval_split=reading.split,
                    sequence_length=dict(reading.lengths),
                    num_examples=reading.num_examples,
                    async_compute_metrics=False,
                    logger_cls=[_Kept],
                    log_dir=os.devnull,
                )
        except tf.errors.OpError as error:
            # What a source raises inside tf.data arrives as a TensorFlow error; the source kept it.
            raise getattr(task.source, "problem", None) or error from error
        about = seqio_tasks.about(task, reading, "metrics")
        rows = itertools.islice(seqio_tasks.read(task, reading.split), reading.num_examples)
        truncated = tuple(
            any(len(row[name]) > length for name, length in reading.lengths.items()) for row in rows
        )
        return cls(about, task, evaluator, truncated, reading.lengths["targets"])

    def evaluate(self, runner: Runner, bootstrap: Bootstrap) -> TaskResult:
        """See `PreparedTask`. Metrics that are means over examples have intervals."""
        written: dict[int, str] = {}

        def predict(dataset: Iterable) -> list[tuple[int, list[int]]]:
            indices, examples = _examples(dataset)
            made = runner.generate(
                self.about.name,
                [inputs for inputs, _ in examples],
                Generation(max_new_tokens=self.max_new_tokens),
            )
            written.update((i, samples[0].text) for i, samples in zip(indices, made, strict=True))
            return [(i, list(s[0].tokens)) for i, s in zip(indices, made, strict=True)]

        def score(dataset: Iterable) -> list[tuple[int, float]]:
            indices, examples = _examples(dataset)
            questions = [Question(inputs, (targets,)) for inputs, targets in examples]
            made = runner.score(self.about.name, questions)
            return [(i, scores[0].total) for i, scores in zip(indices, made, strict=True)]

        with _explained(self.about.name):
            found, _ = self.evaluator.evaluate(
                compute_metrics=True, step=None, predict_fn=predict, score_fn=score
            )
            whole = {k: float(v) for k, v in found.result()[self.about.name].items()}
        (kept,) = self.evaluator.loggers
        single = _means(whole, [*self._singly(kept)])
        higher = {n: not any(word in n for word in _LOWER_IS_BETTER) for n in whole}
        examples = [
            ScoredExample(
                id=str(index),
                truncated=self.truncated[index],
                metrics={name: values[index] for name, values in single.items()},
                output=written.get(index),
                references=(str(target),),
            )
            for index, target in enumerate(kept.targets)
        ]
        return aggregation.scored_task(
            self.about,
            examples,
            bootstrap=bootstrap,
            higher_is_better={name: higher[name] for name in single},
            whole={
                name: Metric(value=value, interval=None, higher_is_better=higher[name])
                for name, value in whole.items()
                if name not in single
            },
        )

    def _singly(self, kept: "_Kept") -> Iterator[list[Mapping[str, float]]]:
        """What each metric function returns for each example by itself, if it can."""
        functions = (
            (self.task.predict_metric_fns, kept.inferences.get("prediction")),
            (self.task.score_metric_fns, kept.inferences.get("score")),
        )
        for group, inferences in functions:
            if inferences is None:
                continue
            for function in group:
                with contextlib.suppress(Exception):  # it wants more than one
                    yield [
                        function([target], [inference])
                        for target, inference in zip(kept.targets, inferences, strict=True)
                    ]


class _Kept(seqio.Logger):
    """Keeps what SeqIO passes to metric functions: targets and inferences, postprocessed."""

    targets: Sequence[Any] = ()
    inferences: Mapping[str, Sequence[Any]] = {}

    def __call__(  # type: ignore[no-untyped-def]
        self, task_name, step, metrics, dataset, inferences, targets
    ) -> None:
        """Is called once all metrics are computed."""
        del task_name, step, metrics, dataset
        self.targets, self.inferences = targets, inferences


def _means(
    whole: Mapping[str, float], single: Sequence[Sequence[Mapping[str, float]]]
) -> dict[str, list[float]]:
    """The values of each example of those metrics that are their means."""
    found = {}
    for values in single:
        for name in values[0] if values else ():
            column = [float(each.get(name, math.nan)) for each in values]
            if name in whole and math.isclose(math.fsum(column) / len(column), whole[name]):
                found[name] = column
    return found


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """Says of which task a postprocessor or a metric function failed."""
    try:
        yield
    except Exception as error:
        cause = error.__cause__ or error  # SeqIO raises a ValueError from what was raised
        if isinstance(cause, (UserError, MachineError, jax.errors.JaxRuntimeError)):
            raise cause from error
        raise UserError(
            f"task {name}: its postprocessor or a metric function failed: "
            f"{type(cause).__name__}: {cause}."
        ) from error


def _examples(dataset: Iterable) -> tuple[list[int], list[tuple[np.ndarray, np.ndarray]]]:
    indices, examples = [], []
    for index, features in dataset.as_numpy_iterator():  # type: ignore[attr-defined]
        indices.append(int(index))
        examples.append(_example(features))
    return indices, examples


def _example(features: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    inputs, targets = features["encoder_input_tokens"], features["decoder_target_tokens"]
    return inputs[inputs > 0], targets[targets > 0]


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
