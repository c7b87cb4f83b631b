"""Examples as they are given: multitask finetuning (MTF) on prompted inputs and targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from archobj_jax.objectives.objective import (
    Example,
    Lengths,
    Objective,
    Vocabulary,
    check_lengths,
)

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class AsGiven(Objective):
    """Each document is an example, cut to the lengths; several share a row, masked apart.

    Lengths {'inputs': 1024, 'targets': 256}: an example keeps its first 1,024 tokens of inputs and
    its first 256 of targets, as SeqIO's `trim_dataset` cuts them and whatever the architecture, so
    that all architectures train on the same examples. A decoder's row is 1,280 long. Which examples
    share a row is decided by `data.packing`.

    Wang et al. 2022 (arXiv 2204.05832) finetune so, on the prompted tasks of T0.
    """

    name: ClassVar[str] = "as_given"
    symbol = "MTF"
    features: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    document_features: ClassVar[tuple[str, ...]] = ("inputs", "targets")

    def check(self, lengths: Lengths, vocabulary: Vocabulary) -> None:
        """Raises UserError unless inputs and targets have lengths; any vocabulary will do."""
        del vocabulary
        check_lengths(self.name, lengths, required=self.features)

    def example(self, document: Example, lengths: Lengths) -> Example:
        """Returns the example that a document is: views of its tokens, int32 [at most length]."""
        return {name: document[name][: lengths[name]] for name in self.features}

    def sizes(self, document_sizes: np.ndarray, lengths: Lengths) -> np.ndarray:
        """Returns the tokens of inputs and targets that examples have: integer [examples, 2].

        Args:
          document_sizes: integer [examples, 2], those of the documents.
          lengths: feature lengths.
        """
        return np.minimum(document_sizes, [lengths[name] for name in self.features])

    def __call__(
        self,
        dataset: tf.data.Dataset,
        sequence_length: Lengths | None = None,
        output_features: Mapping[str, Any] | None = None,
    ) -> tf.data.Dataset:
        """Returns `dataset`: as a SeqIO preprocessor there is nothing to do, SeqIO itself trims."""
        del sequence_length, output_features
        return dataset
