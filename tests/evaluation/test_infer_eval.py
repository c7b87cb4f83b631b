import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seqio
import tensorflow as tf

from archobj_jax.data.loader import DatasetConfig
from archobj_jax.errors import UserError
from archobj_jax.evaluation.infer_eval import InferenceEvaluator
from tests import tiny
from tests.data.corpora import byte_vocabulary

INPUTS = ("ab", "c", "def")
LENGTHS = {"inputs": 8, "targets": 4}


def exact_match(targets, predictions):
    return {
        "exact_match": float(np.mean([t == p for t, p in zip(targets, predictions, strict=True)]))
    }


def best_score(targets, scores):
    assert len(targets) == len(scores)
    return {"best_score": float(np.max(scores)), "scored": float(len(scores))}


@pytest.fixture(scope="module")
def task():
    vocabulary = byte_vocabulary()

    def source(split, shuffle_files=False, seed=None):
        # What a model of zeros writes: greedy decoding takes the first id, padding, until the end.
        return tf.data.Dataset.from_tensor_slices(
            {"inputs": list(INPUTS), "targets": ["", "", "x"]}
        )

    return seqio.TaskRegistry.add(
        "inference_toy",
        source=seqio.FunctionDataSource(source, splits=["validation"]),
        preprocessors=[seqio.preprocessors.tokenize, seqio.preprocessors.append_eos],
        output_features={name: seqio.Feature(vocabulary) for name in ("inputs", "targets")},
        metric_fns=[exact_match, best_score],
    )


def evaluator(task, architecture, **changes):
    config = DatasetConfig(task.name, LENGTHS, "validation", batch_size=2)
    network = tiny.network(vocab_size=task.output_features["targets"].vocabulary.vocab_size)
    blueprint = tiny.blueprint(architecture(network))
    return blueprint, InferenceEvaluator.of(config, blueprint, num_examples=None)


@pytest.mark.parametrize("architecture", [tiny.ND, tiny.ED])
def test_a_model_of_zeros_has_the_metrics_of_a_uniform_one(task, architecture):
    blueprint, evaluated = evaluator(task, architecture)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), blueprint.abstract_params())
    metrics = evaluated.evaluate(zeros, step=0)["inference_toy"]
    # All logits are 0: the empty targets, a lone EOS, have log-likelihood -log V.
    vocab_size = blueprint.architecture.network.vocab_size
    assert metrics["best_score"] == pytest.approx(-np.log(vocab_size), abs=1e-5)
    assert metrics["scored"] == 3.0  # the copy that fills the last batch is not counted
    assert metrics["exact_match"] == pytest.approx(2 / 3)


def test_a_task_without_metric_functions_is_an_error(task):
    bare = seqio.TaskRegistry.add(
        "inference_bare",
        source=task.source,
        preprocessors=task.preprocessors,
        output_features=task.output_features,
    )
    with pytest.raises(UserError, match="'inference_bare' has no task with metric functions"):
        evaluator(bare, tiny.ND)
