"""How long a stage trains, as a study writes it: `168B` tokens, `300 steps` or `3e18 FLOPs`."""

import dataclasses
import math
import re
from typing import Literal

from archobj_jax.errors import UserError, did_you_mean

Unit = Literal["tokens", "steps", "FLOPs"]

_SIZES = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_TEXT = re.compile(r"(\d+(?:\.\d+)?(?:e\+?\d+)?)\s*([KMBT]?)\s*(tokens|steps|FLOPs)?")
_UNIT = re.compile(r"[\d.e+\s]*([A-Za-z]+)")
_NAMES = ("tokens", "steps", "FLOPs", *filter(None, _SIZES))

_OFF = 0.5
"""Of a budget, what rounding to whole steps may leave out or add."""


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
          UserError: it is none of these, or no whole number of steps; `where` begins the message.
        """
        found = _TEXT.fullmatch(text.strip())
        if found is None or not 0 < float(found[1]) < math.inf:
            raise UserError(
                f"{where}: '{text.strip()}' is no budget; expected tokens (168B, 640K), "
                f"'300 steps' or '3e18 FLOPs'.{_hint(text.strip())}"
            )
        unit: Unit = found[3] or "tokens"  # type: ignore[assignment]  # the pattern's own names
        amount = float(found[1]) * _SIZES[found[2]]
        if unit == "steps" and not amount.is_integer():
            raise UserError(f"{where}: '{text.strip()}' is no whole number of steps.")
        return cls(amount, unit)

    def steps(self, *, step_tokens: int, step_flops: float, where: str) -> int:
        """The whole number of steps nearest to the budget.

        Args:
          step_tokens: positions that a step reads.
          step_flops: operations of a step.
          where: begins the message.

        Raises:
          UserError: that is another budget by more than half of this one.
        """
        per_step = {"tokens": float(step_tokens), "steps": 1.0, "FLOPs": step_flops}[self.unit]
        steps = max(1, round(self.amount / per_step))
        if abs(steps * per_step - self.amount) > _OFF * self.amount:
            raise UserError(
                f"{where}: {self} are no step; one takes {per_step:.4g} {self.unit}. Expected "
                "that at least."
            )
        return steps

    def __str__(self) -> str:
        return f"{self.amount:.12g} {self.unit}"


def _hint(text: str) -> str:
    """The unit that is nearest to the one that is written."""
    written = _UNIT.fullmatch(text)
    if written is None:
        return ""
    alike = [name for name in _NAMES if name.lower() == written[1].lower()]
    return f" Did you mean '{alike[0]}'?" if alike else did_you_mean(written[1], _NAMES, count=1)
