"""Full language modeling (FLM): predict every token of the window from those before it."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from archobj_jax.objectives.objective import (
    Example,
    Lengths,
    Vocabulary,
    check_lengths,
)
from archobj_jax.objectives.window_objective import WindowObjective


@dataclass(frozen=True)
class FullLm(WindowObjective):
    """The whole window is targets: lengths {'targets': L}, loss on all L tokens.

    Wang et al. 2022 (arXiv 2204.05832), section 3.2: L = 626.
    """

    name: ClassVar[str] = "full_lm"
    symbol = "FLM"
    document_ends: ClassVar[bool] = True
    features: ClassVar[tuple[str, ...]] = ("targets",)

    def window(self, lengths: Lengths) -> int:
        """Returns the targets length."""
        check_lengths(self.name, lengths, required=["targets"])
        return lengths["targets"]

    def _examples(
        self,
        tokens: np.ndarray,
        rng: np.random.Generator,
        lengths: Lengths,
        vocabulary: Vocabulary,
    ) -> list[Example]:
        del rng, lengths, vocabulary
        return [{"targets": tokens}]
