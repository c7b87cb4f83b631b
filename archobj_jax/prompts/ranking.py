"""Rank classification: the choice with the highest log likelihood is the answer (T0, T5)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Target = tuple[tuple[int, int], bool, float, int]
"""Example and choice, whether it is the right one, weight, and tokens of the choice."""


def rank_classification(targets: Sequence[Target], scores: Sequence[float]) -> dict[str, float]:
    """Returns how often the choice with the highest score is right, and what to hold it against.

    "accuracy" and "chance" are in percent: chance is that of taking any choice, the mean over
    examples of right choices / choices. "examples" is their number, so that a reader can put an
    interval on the accuracy.

    Of choices with equal scores the first is taken; where several are right, any will do; an
    example counts with the weight of the choice taken, as in T5's metric of this name.

    Args:
      targets: one for each choice of each example, in any order.
      scores: the log likelihood of each, not normalised by length.

    Raises:
      ValueError: there are none, or not as many of the one as of the other.
    """
    if not targets or len(targets) != len(scores):
        raise ValueError(f"expected as many targets as scores, got {len(targets)}, {len(scores)}")
    examples: dict[int, list[tuple[int, bool, float, float]]] = {}
    for ((example, choice), is_correct, weight, _), score in zip(targets, scores, strict=True):
        examples.setdefault(example, []).append((choice, is_correct, weight, float(score)))
    right = total = chance = 0.0
    for choices in examples.values():
        choices.sort()
        chance += sum(is_correct for _, is_correct, *_ in choices) / len(choices)
        _, is_correct, weight, _ = choices[int(np.argmax([score for *_, score in choices]))]
        right += weight * is_correct
        total += weight
    return {
        "accuracy": 100 * right / total,
        "examples": len(examples),
        "chance": 100 * chance / len(examples),
    }


def postprocess(
    score: Any, example: Mapping[str, Any] | None = None, is_target: bool = False
) -> Any:
    """Returns a `Target` of the element of a ranked source, or `score`: SeqIO's postprocessor."""
    if not is_target or example is None:
        return score
    index = tuple(int(part) for part in example["idx"])
    return index, bool(example["is_correct"]), float(example["weight"]), len(example["targets"])


def accuracy(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """Returns the share, in percent, of predictions that are the target to the letter."""
    right = [target == prediction for target, prediction in zip(targets, predictions, strict=True)]
    return {"accuracy": 100 * float(np.mean(right))}


def strip(text: Any, example: Any = None, is_target: bool = False) -> Any:
    """Returns the text without blanks around it: SeqIO's postprocessor."""
    del example, is_target
    return text.strip()
