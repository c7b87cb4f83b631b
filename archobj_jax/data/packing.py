"""Packing: which examples share a row, for one epoch of a task or of a mixture.

All tasks of a mixture are packed together, so that a row holds examples of several and the rates
are those of *examples*; packing each task alone would weigh them by length instead. An epoch covers
M = max over tasks of n / p examples (n: a task's examples, p: its share), so that each occurs at
least once, and of each task round(M p): whole shuffled epochs of its examples and a part of one
more. An epoch of a single task holds each of its examples exactly once. All epochs have the same
rows, in another order; so where M is cut to MAX_EXAMPLES, what is left out of tasks that are large
for their share stays out, and data-info.txt says how much. Examples that are longer than their
feature's length are truncated before (`AsGiven`).

The examples of all tasks, in one shuffled order, are placed window after window, the longest of a
window first, each into the open row that it fits best (`best_fit`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from archobj_jax.data import example_store, seeds
from archobj_jax.data.best_fit import BestFit
from archobj_jax.data.packing_statistics import Statistics, TaskStatistics
from archobj_jax.data.progress import Progress
from archobj_jax.objectives import AsGiven, Layout, rng_for

if TYPE_CHECKING:  # at run time it would bring TensorFlow into every worker process
    from archobj_jax.data.cache import Cache

WINDOW = 1 << 16
"""Examples are placed in windows of this many; rows stay open from one window to the next."""

MIN_EXAMPLES = 1 << 16
"""A mixture's epoch has at least so many examples: the padding of the last rows is nothing then."""

MAX_EXAMPLES = 1 << 25
"""And at most so many, whatever its rates: 270 MB, a few times that while packing."""

_LONG = 1 << 20
"""Fewer examples are packed within seconds and show no progress."""


@dataclass(frozen=True)
class Member:
    """One task of what is packed.

    Attributes:
      task: its name.
      rate: its mixing rate, on any scale.
      cache: its cached split.
    """

    task: str
    rate: float
    cache: "Cache"


@dataclass(frozen=True)
class Packed:
    """The rows of an epoch.

    Attributes:
      examples: int64 [examples], numbers as `ExampleStore` has them over the members' caches, row
        after row.
      rows: int64 [rows + 1], where in them each row begins.
      statistics: what the rows hold.
    """

    examples: np.ndarray
    rows: np.ndarray
    statistics: Statistics


def pack(
    members: Sequence[Member],
    objective: AsGiven,
    layout: Layout,
    lengths: Mapping[str, int],
    seed: int,
) -> Packed:
    """Decides which examples share a row; the same for the same arguments.

    Args:
      members: the tasks, each with at least one example.
      objective: theirs, which cuts the examples.
      layout: says how much room a row has and an example takes.
      lengths: of the features.
      seed: draws which examples occur once more than others, and their order.

    Raises:
      MachineError: a file of lengths is damaged.
    """
    whole = [example_store.lengths(member.cache) for member in members]
    cut = [objective.sizes(sizes, lengths) for sizes in whole]
    chosen = counts([len(sizes) for sizes in whole], [member.rate for member in members])
    drawn = [
        _draw(len(sizes), count, seeds.named(seed, member.task))
        for member, sizes, count in zip(members, whole, chosen, strict=True)
    ]
    tasks = [
        TaskStatistics.of(member.task, len(w), len(d) / sum(chosen), w[d], c[d])
        for member, w, c, d in zip(members, whole, cut, drawn, strict=True)
    ]
    firsts = np.cumsum([0, *map(len, whole)])
    numbers = np.concatenate([d + first for d, first in zip(drawn, firsts[:-1], strict=True)])
    rng = rng_for(seeds.named(seed, "packing"), 0)
    rng.shuffle(numbers)
    room = layout.room(lengths)
    row_of, used = _place(numbers, np.concatenate(cut), layout, room)
    # Rows in no order: those that were opened first hold the longest examples of their window.
    names = rng.permutation(int(row_of.max()) + 1)
    row_of = names[row_of]
    starts = np.concatenate([[0], np.cumsum(np.bincount(row_of))])
    statistics = Statistics.of(len(names), used, room, tasks)
    return Packed(numbers[np.argsort(row_of, kind="stable")], starts, statistics)


def counts(available: Sequence[int], rates: Sequence[float]) -> list[int]:
    """Returns how many examples of each task an epoch has.

    Args:
      available: examples of each task, at least one.
      rates: of each, on any scale.
    """
    if len(available) == 1:
        return list(available)
    whole = sum(rates)
    covering = max(n * whole / rate for n, rate in zip(available, rates, strict=True))
    total = min(max(covering, MIN_EXAMPLES), MAX_EXAMPLES)
    return [max(round(total * rate / whole), 1) for rate in rates]


def _draw(available: int, count: int, seed: int) -> np.ndarray:
    """Returns int64 [count]: shuffled epochs of `available` examples, the last one cut short."""
    epochs = range(-(-count // available))
    return np.concatenate([rng_for(seed, epoch).permutation(available) for epoch in epochs])[:count]


def _place(
    numbers: np.ndarray, sizes: np.ndarray, layout: Layout, room: Mapping[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the row of each example, int64 [examples], and int64 [sides] positions used.

    Args:
      numbers: int64 [examples], in the order of placing, but for the windows'.
      sizes: integer [all examples, 2], tokens of inputs and targets by number.
      layout, room: what the examples take, of how much.
    """
    capacity = np.array(list(room.values()))
    smallest = layout.sizes(*sizes.min(axis=0, keepdims=True).T)[0]
    sample = layout.sizes(*sizes[numbers[:WINDOW]].T)
    sides = np.argsort(-sample.mean(axis=0) / capacity, kind="stable")  # the one that fills first
    best = BestFit(capacity[sides].tolist(), smallest[sides].tolist())
    row_of = np.empty(len(numbers), np.int64)
    used = np.zeros(len(capacity), np.int64)
    title = f"packing {len(numbers):,} examples"
    with Progress(title, len(numbers), unit="examples", quiet=len(numbers) < _LONG) as progress:
        for start in range(0, len(numbers), WINDOW):
            taken = layout.sizes(*sizes[numbers[start : start + WINDOW]].T)
            longest_first = np.argsort(-(taken / capacity).sum(axis=1), kind="stable")
            placed = best.place(taken[longest_first][:, sides])
            row_of[start + longest_first] = placed
            used += taken.sum(axis=0)
            progress.finish(len(taken))
    return row_of, used
