"""What T0 was trained and evaluated on: data sets, caps and names (Sanh et al. 2022).

`t0_datasets.csv` is from T0's repository (bigscience-workshop/t-zero, Apache-2.0). T0-Train is
`BASE`; T0+ adds `GPT_EVAL`, T0++ `SGLUE` as well.
"""

import csv
import functools
import re
from pathlib import Path
from typing import NamedTuple

MAX_EXAMPLES = 500_000
"""A larger data set counts as this many examples, shared by its prompts."""

MIXTURES = {
    "d4_train": ("BASE",),
    "d4_gpt_eval_train": ("BASE", "GPT_EVAL"),
    "d4_gpt_sglue_train": ("BASE", "GPT_EVAL", "SGLUE"),
}
"""T0's names of the training mixtures of T0, T0+ and T0++, and the groups in each."""

PREFIX = "d4"
"""Begins the names of T0's mixtures; it was evaluated on `d4_score_eval`."""

ANLI_ROUNDS = ("r1", "r2", "r3")
"""ANLI's splits are named `train_r1` and so on; T0 has a task for each round."""


class Dataset(NamedTuple):
    """A data set of T0's.

    Attributes:
      name: on the Hugging Face hub.
      subset: its configuration, if it has several.
      kind: of its task, such as "NLI".
      trained: the group that trains on it: "BASE", "GPT_EVAL", "SGLUE", or "" for none.
      evaluated: "BASE" if T0 was evaluated on it, "BIAS_FAIRNESS", or "".
      train_examples: of its train split, 0 where the list does not say.
    """

    name: str
    subset: str | None
    kind: str
    trained: str
    evaluated: str
    train_examples: int


@functools.cache
def datasets() -> tuple[Dataset, ...]:
    """Returns T0's list."""
    with (Path(__file__).parent / "t0_datasets.csv").open(newline="") as file:
        return tuple(
            Dataset(
                row["HF_name"],
                row["subset"] or None,
                row["task_by_convention"],
                row["do_train"],
                row["do_eval"],
                int(row["train_size"] or 0),
            )
            for row in csv.DictReader(file)
        )


def capped(train_examples: int, prompts: int) -> int:
    """Returns the mixing rate of each prompt of a data set, in examples.

    Args:
      train_examples: of the data set.
      prompts: that it has.
    """
    return MAX_EXAMPLES // prompts if train_examples > MAX_EXAMPLES else train_examples


def task_name(dataset: str, subset: str | None, prompt: str) -> str:
    """Returns T0's name of a prompted task: what is no letter, digit, dot or `_` becomes `_`."""
    return re.sub(r"[^\w.]+", "_", "_".join(filter(None, (dataset, subset, prompt))))
