"""What a model is asked when it scores: inputs, and the choices that may follow them."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Question:
    """Inputs, and choices to be scored as their targets, each apart from the others.

    Attributes:
      inputs: int32 [n], token ids; may be empty.
      choices: int32 [>= 1] each, token ids.

    Raises:
      ValueError: there is no choice, or one without tokens.
    """

    inputs: np.ndarray
    choices: tuple[np.ndarray, ...]

    def __post_init__(self) -> None:
        empty = [number for number, choice in enumerate(self.choices) if not choice.size]
        if empty or not self.choices:
            what = f"choice {empty[0]} of a question has" if empty else "a question without choices"
            raise ValueError(f"{what} no tokens to score")


@dataclasses.dataclass(frozen=True, eq=False)
class Score:
    """How likely a model finds targets.

    Attributes:
      log_likelihoods: float32 [T], of each target token given the inputs and the targets before
        it, in nats.
      is_greedy: whether greedy decoding would produce the targets.
    """

    log_likelihoods: np.ndarray
    is_greedy: bool

    @property
    def total(self) -> float:
        """Log likelihood of the targets, in nats."""
        return float(self.log_likelihoods.sum(dtype=np.float64))


@dataclasses.dataclass(frozen=True)
class Total:
    """The log likelihood of targets, in nats, and whether greedy decoding would produce them."""

    total: float
    is_greedy: bool
