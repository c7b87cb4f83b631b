"""What T5X trains on: T5's full language modeling in tf.data, and SeqIO's feature converter."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import seqio
import tensorflow as tf

EOS = 1
TAKEN = 65_536  # T5's select_random_chunk takes as many tokens of a document
TOGETHER = 128  # T5's reduce_concat_tokens lays as many documents end to end


def batches(
    documents: Sequence[np.ndarray], length: int, rows: int, *, pack: bool
) -> Iterator[Mapping[str, np.ndarray]]:
    """Yields batches without end, from documents in memory.

    The steps are those of T5's `full_lm`, restated: a chunk of each document, an EOS after it, 128
    documents end to end, cut to the length; a row that is left over from these is padded.

    Args:
      documents: the tokens of each, int32 [tokens].
      length: tokens of a row.
      rows: of a batch.
      pack: whether the converter makes segment ids and positions, as our layouts do.
    """
    ragged = tf.ragged.constant([d.tolist() for d in documents], tf.int32)
    dataset = tf.data.Dataset.from_tensor_slices(ragged).repeat()
    dataset = dataset.map(lambda x: tf.ensure_shape(x, [None])).shuffle(len(documents))

    def chunk(tokens: tf.Tensor) -> tf.Tensor:
        chunks = -(-tf.size(tokens) // TAKEN)
        start = TAKEN * tf.random.uniform([], maxval=chunks, dtype=tf.int32)
        return tf.concat([tokens[start : start + TAKEN], [EOS]], axis=0)

    def concatenate(padded: tf.Tensor) -> tf.Tensor:
        tokens = tf.reshape(padded, [-1])
        return tf.boolean_mask(tokens, tf.cast(tokens, tf.bool))

    def split(tokens: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        count = tf.size(tokens)
        segments = -(-count // length)
        padded = tf.pad(tokens, [[0, segments * length - count]])
        last = count - (segments - 1) * length
        sizes = tf.concat([tf.fill([segments - 1], length), [last]], axis=0)
        return tf.reshape(padded, [-1, length]), sizes

    parallel = tf.data.AUTOTUNE
    dataset = dataset.map(chunk, parallel).padded_batch(TOGETHER, padded_shapes=[-1])
    dataset = dataset.map(concatenate, parallel).map(split, parallel).unbatch()
    dataset = dataset.map(lambda x, size: {"targets": x[:size]}, parallel)
    converted = seqio.LMFeatureConverter(pack=pack)(dataset, {"targets": length})
    yield from converted.batch(rows, drop_remainder=True).prefetch(parallel).as_numpy_iterator()
