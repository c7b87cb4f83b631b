"""Chains of training stages in the paper's notation: `CD:FLM 168B → ND:MLM 51B → ND:MTF 13B`."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Literal

from archobj_jax.errors import UserError, did_you_mean
from archobj_jax.study.budgets import Budget

Kind = Literal["pretrain", "adapt", "finetune"]

PAIRS = ("CD:FLM", "CD:MLM", "ND:PLM", "ND:MLM", "ED:PLM", "ED:MLM")
"""The pretraining pairs: full language modeling has no inputs, so ND and ED have PLM instead."""

MTF = "MTF"
_MTF_PAIRS = ("CD:MTF", "ND:MTF", "ED:MTF")
_ARROW = re.compile("→|->")
_NO_ARROW = re.compile("[=~-]{2,}>|[=~]>|[⇒⟶➔➝]|(?<!-)>")
_LEG = re.compile(r"(\w+:\w+)\s+\(?([^()]+)\)?")


@dataclasses.dataclass(frozen=True)
class Leg:
    """One stage of a chain."""

    pair: str
    budget: Budget

    @property
    def architecture(self) -> str:
        """CD, ND or ED."""
        return self.pair.partition(":")[0]

    @property
    def objective(self) -> str:
        """FLM, PLM, MLM or MTF."""
        return self.pair.partition(":")[2]


def parse(text: str) -> tuple[Leg, ...]:
    """Reads a chain; `->` is as good as the arrow, and budgets may stand in parentheses.

    Raises:
      UserError: an unknown pair, a missing budget, MTF that is not the last stage or the first.
    """
    where = f"chain '{text}'"
    if wrong := _NO_ARROW.search(text):
        raise UserError(f"{where} has '{wrong[0]}'; the arrow is → or ->.")
    legs = tuple(_leg(part.strip(), where) for part in _ARROW.split(text))
    if legs[0].objective == MTF:
        raise UserError(f"{where} begins with {legs[0].pair}; MTF goes on from pretraining.")
    for leg in legs[:-1]:
        if leg.objective == MTF:
            raise UserError(f"{where} goes on after {leg.pair}; MTF is the last stage.")
    return legs


def _leg(part: str, where: str) -> Leg:
    found = _LEG.fullmatch(part)
    if found is None:
        raise UserError(
            f"{where}: '{part}' is no stage; expected a pair and its budget, 'ND:MLM 51B'."
        )
    pair, known = found[1], (*PAIRS, *_MTF_PAIRS)
    if pair not in known:
        raise UserError(f"{where}: there is no pair '{pair}'.{_hint(pair, known)}")
    return Leg(pair, Budget.parse(found[2], where=where))


def _hint(pair: str, known: Sequence[str]) -> str:
    """The pair that is meant, or those of its architecture, or all."""
    if pair.upper() in known:
        return f" Did you mean '{pair.upper()}'?"
    architecture, _, objective = pair.partition(":")
    own = [each for each in known if each.startswith(f"{architecture}:")]
    if own and objective in {each.partition(":")[2] for each in known}:
        return f" Pairs of {architecture} are {', '.join(own)}."
    swapped = [each for each in known if sorted(each) == sorted(pair)]
    if swapped:
        return f" Did you mean '{swapped[0]}'?"
    return did_you_mean(pair, known, count=1) or f" Pairs are {', '.join(known)}."


def kind(legs: Sequence[Leg]) -> Kind:
    """What the last leg is: pretraining (also when it only goes on), adaptation or finetuning."""
    if legs[-1].objective == MTF:
        return "finetune"
    return "pretrain" if len({leg.pair for leg in legs}) == 1 else "adapt"
