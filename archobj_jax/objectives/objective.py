"""What an objective is: a pure function from a task's cached documents to examples.

An objective is a frozen dataclass over numpy. The loader calls it through Grain; the same object
stands among a task's SeqIO preprocessors, after `seqio.CacheDatasetPlaceholder`, and does the same
inside tf.data. There are two kinds: a `WindowObjective` reads documents laid end to end, window by
window; to `AsGiven` each document is an example.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import DTypeLike

from archobj_jax import errors

if TYPE_CHECKING:
    import tensorflow as tf

Example = dict[str, np.ndarray]
"""'targets', and 'inputs' where the objective has them: int32 [length], without padding."""

Lengths = Mapping[str, int]
"""SeqIO's task feature lengths, in tokens: {'inputs': 512, 'targets': 114}."""


class Vocabulary(Protocol):
    """What an objective reads of a `seqio.Vocabulary`."""

    @property
    def vocab_size(self) -> int:
        """Number of ids, sentinels included."""

    @property
    def extra_ids(self) -> int:
        """Number of sentinels: the last ids of the vocabulary."""

    @property
    def eos_id(self) -> int | None:
        """The id that ends a sequence."""


@dataclass(frozen=True)
class Objective(ABC):
    """Makes examples of a task's cached documents.

    A subclass states its `name`, the paper's `symbol`, the `features` of its examples, and the
    `document_features` that each of the documents has in the cache.
    """

    name: ClassVar[str]
    symbol: ClassVar[str]
    features: ClassVar[tuple[str, ...]]
    document_features: ClassVar[tuple[str, ...]]

    @abstractmethod
    def check(self, lengths: Lengths, vocabulary: Vocabulary) -> None:
        """Raises UserError if lengths and vocabulary do not suit the objective.

        To be called once before any data flows, so that the error is met where it can be told
        well and not inside a worker.
        """

    @abstractmethod
    def __call__(
        self,
        dataset: tf.data.Dataset,
        sequence_length: Lengths | None = None,
        output_features: Mapping[str, Any] | None = None,
    ) -> tf.data.Dataset:
        """Runs as a SeqIO preprocessor: from documents to examples."""


def rng_for(seed: int, index: int) -> np.random.Generator:
    """Returns the generator of row `index` under `seed`, whoever asks and in whatever order.

    Philox is counter-based: each key is a stream of its own (Salmon et al. 2011, "Parallel random
    numbers: as easy as 1, 2, 3"), here with `seed` as the high and `index` as the low 64 bits.
    """
    key: Any = _Key((index % _WORD, seed % _WORD))  # numpy's annotation has its own class only
    return np.random.Generator(np.random.Philox(key))


_WORD = 2**64


class _Key(ISeedSequence):
    """A Philox key, given as a seed: with `key=`, numpy asks the system for entropy all the same.

    Args:
      words: the low and the high 64 bits.
    """

    def __init__(self, words: tuple[int, int]):
        self._words = words

    def generate_state(self, n_words: int, dtype: DTypeLike = np.uint64) -> np.ndarray:
        """Returns uint64 [2]; Philox takes these words for its key as they are."""
        return np.array(self._words[:n_words], dtype)


def eos_id(owner: str, vocabulary: Vocabulary) -> int:
    """Returns the vocabulary's EOS; raises UserError if it has none."""
    if vocabulary.eos_id is None:
        raise errors.UserError(f"{owner} ends sequences with EOS, but {vocabulary} has no EOS id.")
    return vocabulary.eos_id


def check_lengths(
    owner: str,
    lengths: Lengths,
    *,
    required: Collection[str],
    optional: Collection[str] = (),
) -> None:
    """Raises UserError unless `lengths` gives whole positive lengths for the right features."""
    known = [*required, *optional]
    for feature, length in lengths.items():
        if feature not in known:
            raise errors.UserError(
                f"TASK_FEATURE_LENGTHS: {owner} has no feature '{feature}'; it takes "
                f"{_listed(known)}.{errors.did_you_mean(feature, known)}"
            )
        if not isinstance(length, (int, np.integer)) or length < 1:
            raise errors.UserError(
                f"TASK_FEATURE_LENGTHS: the length of '{feature}' is {length!r}; {owner} expects "
                "a whole number of tokens, at least 1."
            )
    for feature in required:
        if feature not in lengths:
            raise errors.UserError(
                f"TASK_FEATURE_LENGTHS: {owner} needs a length for '{feature}'; "
                f"got {dict(lengths)}."
            )


def _listed(names: Collection[str]) -> str:
    return " and ".join(f"'{name}'" for name in names)
