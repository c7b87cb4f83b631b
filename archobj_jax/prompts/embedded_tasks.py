"""A family of prompted tasks that needs no download: made of the embedded corpus.

Tasks to train on are made of the train documents (and of the validation documents for watching
them); tasks held out, of other kinds, of the validation documents alone. Their prompts are in
`embedded_templates/`, in PromptSource's format, under the data set `embedded`.
"""

import functools
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from archobj_jax.data import embedded
from archobj_jax.errors import UserError, did_you_mean
from archobj_jax.objectives import rng_for
from archobj_jax.prompts import embedded_examples
from archobj_jax.prompts.collection import PromptCollection
from archobj_jax.prompts.embedded_examples import Draws, Example

DATASET = "embedded"

VERSION = 1
"""Of the examples; to be raised when they change, so that no old cache is taken for a new one."""


@dataclass(frozen=True)
class EmbeddedTask:
    """One task of the family.

    Attributes:
      name: the subset under which its prompts and examples go.
      splits: "train" and "validation"; a task held out has the latter alone.
      make: yields the examples of a split.
    """

    name: str
    splits: tuple[str, ...]
    make: Callable[[str, Draws], Iterator[Example]]

    @property
    def held_out(self) -> bool:
        """Whether no model is to be trained on it."""
        return "train" not in self.splits


def _tasks(splits: tuple[str, ...], *makers: Callable[[str, Draws], Iterator[Example]]) -> dict:
    return {make.__name__: EmbeddedTask(make.__name__, splits, make) for make in makers}


TASKS: dict[str, EmbeddedTask] = {
    **_tasks(
        embedded.SPLITS,
        embedded_examples.continuation,
        embedded_examples.module,
        embedded_examples.missing_word,
        embedded_examples.word_order,
        embedded_examples.follows,
        embedded_examples.uses_word,
        embedded_examples.same_document,
    ),
    **_tasks(
        embedded.SPLITS[1:],
        embedded_examples.supported,
        embedded_examples.function,
        embedded_examples.beginning,
        embedded_examples.ordered,
        embedded_examples.odd_one_out,
    ),
}
"""All tasks by name: seven to train on, five held out."""


def examples(task: str, split: str) -> Iterator[Example]:
    """Yields the examples of a task, always the same ones in the same order.

    Args:
      task: a name in `TASKS`.
      split: one of its splits.

    Yields:
      The fields that its templates read: texts, lists of texts, and `label`, an int.

    Raises:
      UserError: there is no such task, or it has no such split.
    """
    if task not in TASKS:
        raise UserError(
            f"no embedded task is named '{task}'.{did_you_mean(task, TASKS)} They are "
            f"{', '.join(TASKS)}"
        )
    if split not in TASKS[task].splits:
        raise UserError(
            f"embedded task '{task}' has no split '{split}'; it has {', '.join(TASKS[task].splits)}"
        )
    seed = zlib.crc32(f"{task}/{split}".encode())

    def draws(number: int) -> np.random.Generator:
        return rng_for(seed, number)

    yield from TASKS[task].make(split, draws)


def declaration() -> dict[str, object]:
    """Returns what the examples depend on: the corpus and how they are made (`VERSION`)."""
    return {**embedded.declaration(), "family": VERSION}


@functools.cache
def prompts() -> PromptCollection:
    """Returns the prompts of all tasks."""
    return PromptCollection.read(Path(__file__).parent / "embedded_templates")
