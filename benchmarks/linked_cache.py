"""Large token caches out of one shard: it is real, and linked under many names."""

import dataclasses
import os
import tempfile
from pathlib import Path

import numpy as np
import seqio
import tensorflow as tf

from archobj_jax.data import cache
from archobj_jax.data.manifest import Manifest
from archobj_jax.objectives import FullLm, PrefixLm, SpanCorruption

SPLIT = "train"


@dataclasses.dataclass(frozen=True)
class Tokenised:
    """Documents laid end to end.

    Attributes:
      tokens: int32 [tokens].
      lengths: int64 [documents].
    """

    tokens: np.ndarray
    lengths: np.ndarray


def register(name: str, vocabulary: seqio.Vocabulary, documents: Tokenised | None = None) -> None:
    """Registers `<name>_full_lm`, `<name>_prefix_lm` and `<name>_span_corruption`.

    Args:
      name: the corpus.
      vocabulary: whose ids the tokens are.
      documents: the corpus, one shard; not needed where there is a cache of it.
    """

    def dataset(split, shuffle_files=False, seed=None):  # type: ignore[no-untyped-def]  # SeqIO's
        del split, shuffle_files, seed
        assert documents is not None, "the cache is there"
        ragged = tf.RaggedTensor.from_row_lengths(documents.tokens, documents.lengths)
        sliced = tf.data.Dataset.from_tensor_slices(ragged)
        return sliced.map(lambda tokens: {"targets": tf.ensure_shape(tokens, [None])})

    source = seqio.FunctionDataSource(dataset, splits=[SPLIT])
    source.name = name  # of the cache, which the tasks share
    for objective in (FullLm(), PrefixLm(), SpanCorruption()):
        seqio.TaskRegistry.add(
            f"{name}_{objective.name}",
            source=source,
            preprocessors=[seqio.CacheDatasetPlaceholder(), objective],
            output_features={
                feature: seqio.Feature(vocabulary, add_eos=False) for feature in objective.features
            },
        )


def make(name: str, cache_dir: Path, times: int) -> Manifest:
    """Makes the cache of a registered corpus of one shard, which stands in it `times` times.

    Reading such a cache is reading one of that size; only the operating system, which knows a file
    by what is linked, can hold all of it in memory.

    Returns:
      Its manifest.
    """
    task = seqio.get_mixture_or_task(f"{name}_full_lm")
    with tempfile.TemporaryDirectory(dir=cache_dir) as folder:
        opened = cache.ensure(task, SPLIT, folder, workers=0)
        there = cache_dir / opened.folder.relative_to(folder)
        there.mkdir(parents=True)
        (shard,) = opened.manifest.shards
        shards = []
        for index in range(times):
            file = f"shard-{index:05d}-of-{times:05d}.array_record"
            shards.append(dataclasses.replace(shard, file=file))
            for old, new in zip(shard.sums, shards[-1].sums, strict=True):
                os.link(opened.folder / old, there / new)
    made = dataclasses.replace(opened.manifest, shards=tuple(shards))
    made.write(there)
    return made
