"""A window objective as a SeqIO preprocessor: the one place of objectives that needs TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from archobj_jax import errors
from archobj_jax.objectives.objective import Lengths, eos_id, rng_for
from archobj_jax.objectives.window_objective import WindowObjective


def apply(
    objective: WindowObjective,
    dataset: tf.data.Dataset,
    sequence_length: Lengths | None,
    output_features: Mapping[str, Any] | None,
) -> tf.data.Dataset:
    """Returns the examples that the objective makes of tokenised documents.

    The documents are concatenated, an EOS after each where the objective asks for it, and cut into
    windows; a last, partial window is dropped. Window i becomes
    `objective.examples(window, rng_for(seed, i), …)` with the seed of `seqio_seed`.

    Args:
      objective: which one.
      dataset: documents, elements with 'targets': int32 [any length].
      sequence_length: feature lengths, from SeqIO.
      output_features: the task's `seqio.Feature`s, from SeqIO.

    Returns:
      Elements with the objective's features: int32 [any length].

    Raises:
      UserError: lengths, features or vocabulary do not suit the objective.
    """
    if sequence_length is None:
        raise errors.UserError(
            f"{objective.name} needs the task feature lengths: pass sequence_length, for example "
            "{'targets': 626}, to get_dataset."
        )
    vocabulary = _vocabulary(objective, output_features or {})
    objective.check(sequence_length, vocabulary)
    window = objective.window(sequence_length)

    def row(seed: np.ndarray, index: np.ndarray, tokens: np.ndarray) -> list[np.ndarray]:
        rng = rng_for(int(seed), int(index))
        examples = objective.examples(tokens, rng, sequence_length, vocabulary)
        # tf.numpy_function returns plain arrays: each feature's examples end to end, and sizes.
        columns = [[example[name] for example in examples] for name in objective.features]
        ends = [np.array([part.size for part in parts], np.int64) for parts in columns]
        return [np.concatenate(parts) for parts in columns] + ends

    count = len(objective.features)
    types = [tf.int32] * count + [tf.int64] * count
    seed = seqio_seed()

    def to_examples(index: tf.Tensor, tokens: tf.Tensor) -> tf.data.Dataset:
        flat = tf.numpy_function(row, [seed, index, tokens], types)
        ragged = {
            name: tf.RaggedTensor.from_row_lengths(
                tf.ensure_shape(values, [None]), tf.ensure_shape(sizes, [None])
            )
            for name, values, sizes in zip(
                objective.features, flat[:count], flat[count:], strict=True
            )
        }
        return tf.data.Dataset.from_tensor_slices(ragged)

    eos = eos_id(objective.name, vocabulary) if objective.document_ends else None
    stream = _stream(dataset, eos)
    examples = stream.rebatch(window, drop_remainder=True).enumerate().flat_map(to_examples)
    # Slices of a ragged tensor are plain tensors; this makes element_spec say so.
    return examples.map(lambda example: {k: tf.ensure_shape(v, [None]) for k, v in example.items()})


def seqio_seed() -> tf.Tensor:
    """Returns the next of SeqIO's preprocessor seeds, an int64 scalar.

    `seqio.map_seed_manager`, which `Task.get_dataset(seed=…)` enters, makes it deterministic; each
    call takes the next seed, as every SeqIO preprocessor does.
    """

    @seqio.map_over_dataset(num_seeds=1)
    def take(_: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        high, low = tf.unstack(tf.cast(seed, tf.int64))
        return high * 2**32 + low

    return take(tf.data.Dataset.from_tensors(0)).get_single_element()


def _vocabulary(objective: WindowObjective, output_features: Mapping[str, Any]) -> seqio.Vocabulary:
    for name in objective.features:
        if name not in output_features:
            raise errors.UserError(
                f"{objective.name} makes the feature '{name}', which the task's output_features "
                f"lack; they are {sorted(output_features)}."
                f"{errors.did_you_mean(name, output_features)}"
            )
    return output_features["targets"].vocabulary


def _stream(dataset: tf.data.Dataset, eos: int | None) -> tf.data.Dataset:
    """Returns the token sequences of non-empty documents, each with `eos` appended if given."""
    if "targets" not in dataset.element_spec:
        raise errors.UserError(
            "an objective reads tokenised documents from the feature 'targets'; the dataset has "
            f"{sorted(dataset.element_spec)}: rekey and tokenise before it."
        )
    stream = dataset.map(lambda document: tf.cast(document["targets"], tf.int32))
    stream = stream.filter(lambda tokens: tf.size(tokens) > 0)
    if eos is None:
        return stream
    return stream.map(lambda tokens: tf.concat([tokens, [eos]], axis=0))
