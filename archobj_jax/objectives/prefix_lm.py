"""Prefix language modeling (PLM): read the window up to a random point, predict what follows."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from archobj_jax import errors
from archobj_jax.objectives.objective import (
    Example,
    Lengths,
    Vocabulary,
    check_lengths,
)
from archobj_jax.objectives.window_objective import WindowObjective


@dataclass(frozen=True)
class PrefixLm(WindowObjective):
    """Splits L raw tokens at k, uniform in 1..L-1; the first k are inputs, the rest targets.

    Lengths {'targets': L} give one example a row. Lengths {'inputs': L, 'targets': L} give two, of
    L raw tokens each, split at k and at L - k: together exactly L inputs and L targets, the
    constant shapes that an encoder-decoder needs (Wang et al. 2022, arXiv 2204.05832: L = 626,
    rows of 1,252, the two masked apart).
    """

    name: ClassVar[str] = "prefix_lm"
    symbol = "PLM"
    document_ends: ClassVar[bool] = True
    features: ClassVar[tuple[str, ...]] = ("inputs", "targets")

    def window(self, lengths: Lengths) -> int:
        """Returns the sum of the lengths."""
        check_lengths(self.name, lengths, required=["targets"], optional=["inputs"])
        targets = lengths["targets"]
        inputs = lengths.get("inputs", targets)
        if inputs != targets:
            raise errors.UserError(
                f"TASK_FEATURE_LENGTHS: prefix_lm pairs two complementary splits in a row, so "
                f"'inputs' ({inputs}) and 'targets' ({targets}) must be equal; or leave 'inputs' "
                "out for one split a row."
            )
        if targets < 2:
            raise errors.UserError(
                f"TASK_FEATURE_LENGTHS: 'targets' is {targets}; prefix_lm splits at least 2 tokens."
            )
        return sum(lengths.values())

    def _examples(
        self,
        tokens: np.ndarray,
        rng: np.random.Generator,
        lengths: Lengths,
        vocabulary: Vocabulary,
    ) -> list[Example]:
        del vocabulary
        length = lengths["targets"]
        split = int(rng.integers(1, length))
        first = _split(tokens[:length], split)
        if "inputs" not in lengths:
            return [first]
        return [first, _split(tokens[length:], length - split)]


def _split(tokens: np.ndarray, at: int) -> Example:
    return {"inputs": tokens[:at], "targets": tokens[at:]}
