"""Metric functions get what the model wrote; those that are means over examples have intervals."""

from collections.abc import Sequence

import numpy as np
import pytest
import seqio
import tensorflow as tf

from archobj_jax.errors import UserError
from archobj_jax.evaluation.results import TaskResult
from archobj_jax.evaluation.seqio_metrics import MetricTask
from archobj_jax.evaluation.seqio_tasks import Reading
from archobj_jax.evaluation.statistics import Bootstrap
from archobj_jax.inference.decoding import Generated, Generation
from archobj_jax.inference.questions import Question, Total
from tests.data.corpora import byte_vocabulary

VOCABULARY = byte_vocabulary()
TARGETS = ("yes", "no", "no", "yes", "yes", "no")


class AlwaysYes:
    """Writes "yes", and finds every target as likely as it has tokens."""

    def generate(
        self, name: str, prompts: Sequence[np.ndarray], config: Generation
    ) -> list[list[Generated]]:
        del name
        assert config.max_new_tokens == 8
        tokens = tuple(VOCABULARY.encode("yes"))
        return [[Generated(tokens, "yes", -1.0, "eos")] for _ in prompts]

    def score(self, name: str, questions: Sequence[Question]) -> list[list[Total]]:
        del name
        return [[Total(-float(q.choices[0].size), False)] for q in questions]


def exact(targets, predictions):
    return {
        "exact": 100 * float(np.mean([t == p for t, p in zip(targets, predictions, strict=True)]))
    }


def kinds(targets, predictions):
    """No mean over examples."""
    return {"kinds": float(len(set(targets) | set(predictions)))}


def edit_distance(targets, scores):
    return {"edit_distance": -float(np.mean(scores))}


def broken(targets, predictions):
    raise ZeroDivisionError("nothing to divide")


def result_of(name: str, *functions) -> TaskResult:
    def source(split, shuffle_files=False, seed=None):
        return tf.data.Dataset.from_tensor_slices(
            {"inputs": ["is it?"] * len(TARGETS), "targets": list(TARGETS)}
        )

    task = seqio.TaskRegistry.add(
        name,
        source=seqio.FunctionDataSource(source, splits=["validation"]),
        preprocessors=[seqio.preprocessors.tokenize, seqio.preprocessors.append_eos],
        output_features={n: seqio.Feature(VOCABULARY) for n in ("inputs", "targets")},
        metric_fns=list(functions),
    )
    prepared = MetricTask.of(task, Reading("validation", {"inputs": 16, "targets": 8}))
    return prepared.evaluate(AlwaysYes(), Bootstrap(resamples=100))  # type: ignore[arg-type]


def test_means_over_examples_have_intervals_and_others_none():
    result = result_of("metrics_all", exact, kinds, edit_distance)
    assert {name: m.value for name, m in result.metrics.items()} == pytest.approx(
        {"exact": 50.0, "kinds": 2.0, "edit_distance": 3.5}
    )
    low, high = result.metrics["exact"].interval
    assert low < 50.0 < high
    assert result.metrics["kinds"].interval is None
    assert result.metrics["exact"].higher_is_better
    assert not result.metrics["edit_distance"].higher_is_better


def test_examples_hold_what_was_written_and_wanted():
    result = result_of("metrics_examples", exact)
    assert [example.output for example in result.examples] == ["yes"] * len(TARGETS)
    assert [example.references for example in result.examples] == [(t,) for t in TARGETS]
    assert [example.metrics["exact"] for example in result.examples] == [
        100.0 * (target == "yes") for target in TARGETS
    ]


def test_a_metric_function_that_fails_is_named():
    with pytest.raises(UserError, match=r"metrics_broken: .* failed: ZeroDivisionError: nothing"):
        result_of("metrics_broken", broken)
