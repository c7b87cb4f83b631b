"""Objectives that read raw text: from a window of tokens and a generator to examples."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from archobj_jax.objectives.objective import Example, Lengths, Objective, Vocabulary, eos_id

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class WindowObjective(Objective):
    """Turns a window of the token stream into the examples of one row.

    Beside what every objective states, a subclass states whether its stream carries an EOS after
    each document (`document_ends`).
    """

    document_ends: ClassVar[bool]
    document_features: ClassVar[tuple[str, ...]] = ("targets",)

    # SeqIO hands these to a preprocessor that is a dataclass by `dataclasses.replace`. They belong
    # to one call, not to the objective: equality, hash and repr leave them out.
    sequence_length: Lengths | None = field(default=None, kw_only=True, compare=False, repr=False)
    output_features: Mapping[str, Any] | None = field(
        default=None, kw_only=True, compare=False, repr=False
    )

    @abstractmethod
    def window(self, lengths: Lengths) -> int:
        """Returns how many raw tokens of the stream one row consumes.

        Raises:
          UserError: this objective cannot fill rows of these lengths.
        """

    def check(self, lengths: Lengths, vocabulary: Vocabulary) -> None:
        """Raises UserError if lengths and vocabulary do not suit the objective."""
        self.window(lengths)
        eos_id(self.name, vocabulary)

    def examples(
        self,
        tokens: np.ndarray,
        rng: np.random.Generator,
        lengths: Lengths,
        vocabulary: Vocabulary,
    ) -> list[Example]:
        """Returns the examples of one row; they may be views of `tokens`.

        Args:
          tokens: raw token ids, any integer dtype [window(lengths)].
          rng: the only source of randomness; `rng_for(seed, row index)` for data.
          lengths: feature lengths of the row.
          vocabulary: whose ids the tokens are.

        Raises:
          UserError: the lengths or the vocabulary do not suit the objective.
          ValueError: `tokens` is not one window long.
        """
        window = _window(self, tuple(lengths.items()))
        if tokens.shape != (window,):
            raise ValueError(
                f"{self.name}: expected a window of shape {(window,)}, got {tokens.shape}"
            )
        return self._examples(np.asarray(tokens, np.int32), rng, lengths, vocabulary)

    @abstractmethod
    def _examples(
        self,
        tokens: np.ndarray,
        rng: np.random.Generator,
        lengths: Lengths,
        vocabulary: Vocabulary,
    ) -> list[Example]:
        """`examples` for int32 tokens that are known to be one window."""

    def __call__(
        self,
        dataset: tf.data.Dataset,
        sequence_length: Lengths | None = None,
        output_features: Mapping[str, Any] | None = None,
    ) -> tf.data.Dataset:
        """Runs as a SeqIO preprocessor; see `seqio_step.apply`."""
        from archobj_jax.objectives import seqio_step

        return seqio_step.apply(
            self,
            dataset,
            self.sequence_length if sequence_length is None else sequence_length,
            self.output_features if output_features is None else output_features,
        )


@lru_cache(maxsize=64)
def _window(objective: WindowObjective, lengths: tuple[tuple[str, int], ...]) -> int:
    """Returns what `objective.window` does, once for all rows."""
    return objective.window(dict(lengths))
