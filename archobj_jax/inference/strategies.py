"""What a way to choose tokens offers to the decoding loop, which knows none of them by name.

A prompt is continued in one or several rows of a batch. In each step every row takes one token; a
row may then go on from what another row of the same prompt has read.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import jax
import numpy as np
from flax import struct

from archobj_jax.architectures.language_model import DecodingState
from archobj_jax.shapes import Array, Bool, Float, Int

Ended = Literal["eos", "stop", "length"]
"""Why a text ended: the model ended it, at a stop string, or it had no room for more tokens."""


@struct.dataclass
class Step:
    """One token of each of R rows.

    Attributes:
      tokens: int32 ids.
      parents: the row, as of the step before, that each goes on from; of the same prompt.
      log_likelihoods: of the tokens under the model's own distribution, in nats.
    """

    tokens: Int[Array, "R"]
    parents: Int[Array, "R"]
    log_likelihoods: Float[Array, "R"]


@dataclass(frozen=True)
class Hypothesis:
    """A text that has ended.

    Attributes:
      row, count: its tokens are those of `row` after `count` steps; no end of sequence.
      log_likelihood: of its tokens and of the end of sequence, if it has one.
      ended: why.
      score: what a search ranks it by; None for a sample.
    """

    row: int
    count: int
    log_likelihood: float
    ended: Ended
    score: float | None = None


class Strategy(Protocol):
    """A way to choose tokens, hashable. Methods are traced, but for `rows` and `hypotheses`.

    Attributes:
      rows_compete: whether a row that has ended must be known to have before the next step.
    """

    rows_compete: ClassVar[bool]

    def rows(self, num_samples: int) -> int:
        """Rows that each prompt has."""

    def begin(self, keys: Array, limits: Int[Array, "P"], *, num_samples: int, prompt: int) -> Any:
        """The state before the first step; its `done` [_] says which rows or prompts have ended.

        Args:
          keys: random keys [P], one a prompt.
          limits: tokens that the texts of each prompt have at most; 0 ends them at once.
          num_samples: texts wanted of each prompt.
          prompt: columns of the cache that the prompts take.
        """

    def choose(
        self, logits: Float[Array, "R V"], state: Any, decoding: DecodingState, eos_id: int
    ) -> tuple[Step, Any, DecodingState]:
        """Takes a token for each row; returns what the rows go on from, too."""

    def stop(self, state: Any, rows: Bool[Array, "R"]) -> Any:
        """Ends rows whose text, as of the last step, ends at a stop string."""

    def hypotheses(self, state: Any, trace: "Trace", eos_id: int) -> list[list[Hypothesis]]:
        """The texts of each prompt, best first, from the last state."""


@dataclass
class Trace:
    """The steps so far, on the host."""

    steps: list[Step] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.steps)

    def add(self, steps: Step, count: int) -> None:
        """Adds the first `count` of stacked steps [_, R]."""
        steps = jax.tree.map(np.asarray, steps)
        self.steps += [jax.tree.map(lambda x, i=i: x[i], steps) for i in range(count)]

    def paths(self, rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens int32 [n, count] and log likelihoods of `rows` [n] as they were after `count`."""
        tokens = np.zeros((rows.size, count), np.int32)
        log_likelihoods = np.zeros((rows.size, count), np.float32)
        for index in reversed(range(count)):
            step = self.steps[index]
            tokens[:, index] = step.tokens[rows]
            log_likelihoods[:, index] = step.log_likelihoods[rows]
            rows = np.asarray(step.parents)[rows]
        return tokens, log_likelihoods
