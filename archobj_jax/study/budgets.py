"""How long a stage trains, as a study writes it: `168B` tokens, `300 steps` or `3e18 FLOPs`."""

import dataclasses
import re
from typing import Literal

from archobj_jax.errors import UserError

Unit = Literal["tokens", "steps", "FLOPs"]

_SIZES = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_TEXT = re.compile(r"(\d+(?:\.\d+)?(?:e\+?\d+)?)\s*([KMBT]?)\s*(tokens|steps|FLOPs)?")


@dataclasses.dataclass(frozen=True)
class Budget:
    """The length of one stage.

    Attributes:
      amount: in `unit`.
      unit: tokens are positions that a step reads, the paper's measure; FLOPs are counted from the
        model, see `training.flops`.
    """

    amount: float
    unit: Unit

    @classmethod
    def parse(cls, text: str, *, where: str) -> "Budget":
        """Reads `168B`, `168B tokens`, `300 steps` or `3e18 FLOPs`.

        Raises:
          UserError: it is none of these; `where` begins the message.
        """
        found = _TEXT.fullmatch(text.strip())
        if found is None or float(found[1]) <= 0:
            raise UserError(
                f"{where}: '{text.strip()}' is no budget; expected tokens (168B, 640K), "
                "'300 steps' or '3e18 FLOPs'."
            )
        unit: Unit = found[3] or "tokens"  # type: ignore[assignment]  # the pattern's own names
        return cls(float(found[1]) * _SIZES[found[2]], unit)

    def steps(self, *, step_tokens: int, step_flops: float) -> int:
        """The whole number of steps nearest to the budget, at least 1.

        Args:
          step_tokens: positions that a step reads.
          step_flops: operations of a step.
        """
        per_step = {"tokens": float(step_tokens), "steps": 1.0, "FLOPs": step_flops}[self.unit]
        return max(1, round(self.amount / per_step))

    def __str__(self) -> str:
        return f"{self.amount:.12g} {self.unit}"
