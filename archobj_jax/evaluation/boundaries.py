"""Where a context ends and its continuation begins, in tokens.

A tokenizer may join what two texts meet in: `do` and `ing` may be one token, and SentencePiece
turns blanks and newlines into a mark on the word that follows, dropping those at either end. So a
decoder's context and continuation are tokenised as one text, as it would read them, and parted
where the tokens of the context alone end or begin to differ. An encoder-decoder reads them apart,
and each is tokenised by itself, as its examples in training were.
"""

import dataclasses

import numpy as np

from archobj_jax.inference.vocabulary import Vocabulary
from archobj_jax.objectives.layouts import Layout

MAX_LENGTH = 2048
"""Tokens that are read of one example, unless told otherwise."""


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """A context and its continuation.

    Attributes:
      inputs: int32 [n], the tokens of the context; may be empty.
      targets: int32 [>= 1], those of the continuation. A decoder's begin inside the context if the
        two meet in one token.
      dropped: tokens that were cut from the left of the context.
    """

    inputs: np.ndarray
    targets: np.ndarray
    dropped: int = 0


@dataclasses.dataclass(frozen=True)
class Boundaries:
    """How texts become a model's inputs and targets. Nothing is added to them, no end of sequence.

    Attributes:
      vocabulary: the model's.
      one_sequence: whether the model reads inputs and targets as one sequence, as decoders do.
      max_length: tokens that are read of one example: inputs and targets together in one sequence,
        else each by themselves.
    """

    vocabulary: Vocabulary
    one_sequence: bool
    max_length: int = MAX_LENGTH

    @classmethod
    def of(
        cls, vocabulary: Vocabulary, layout: Layout, *, max_length: int = MAX_LENGTH
    ) -> "Boundaries":
        """Those of an architecture: one sequence if its rows have one side."""
        return cls(vocabulary, len(layout.room({"inputs": 1, "targets": 1})) == 1, max_length)

    def tokens(self, text: str) -> np.ndarray:
        """The tokens of a text, int32."""
        return np.asarray(self.vocabulary.encode(text), np.int32)

    def pair(self, context: str, continuation: str) -> Pair:
        """Tokenises both, and cuts the context on the left to what `max_length` leaves it.

        Blanks at the end of the context count as the continuation's, as in lm-eval.

        Raises:
          ValueError: the continuation has no tokens, or more than `max_length`.
        """
        kept = context.rstrip()
        inputs, targets = self._split(kept, context[len(kept) :] + continuation)
        if not targets.size:
            raise ValueError(f"the continuation {continuation!r} has no tokens to score")
        if targets.size > self.max_length:
            raise ValueError(
                f"the continuation {_shortened(continuation)} has {targets.size} tokens, at most "
                f"max_length = {self.max_length} can be read"
            )
        room = self._room(targets.size)
        return Pair(inputs[max(inputs.size - room, 0) :], targets, max(inputs.size - room, 0))

    def prompt(self, text: str, *, new_tokens: int) -> tuple[np.ndarray, int]:
        """The tokens to go on from, cut on the left to leave room for new ones; and how many went.

        Raises:
          ValueError: there is no room for a prompt.
        """
        room = self._room(new_tokens)
        if room < 1:
            raise ValueError(
                f"{new_tokens} new tokens leave no room for a prompt in max_length = "
                f"{self.max_length}"
            )
        tokens = self.tokens(text)
        dropped = max(tokens.size - room, 0)
        return tokens[dropped:], dropped

    def _room(self, targets: int) -> int:
        return self.max_length - targets if self.one_sequence else self.max_length

    def _split(self, context: str, continuation: str) -> tuple[np.ndarray, np.ndarray]:
        if not self.one_sequence:
            return self.tokens(context), self.tokens(continuation)
        whole, before = self.tokens(context + continuation), self.tokens(context)
        size = min(whole.size, before.size)
        differ = np.flatnonzero(whole[:size] != before[:size])
        end = int(differ[0]) if differ.size else size
        return whole[:end], whole[end:]


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
