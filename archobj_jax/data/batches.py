"""From rows to batches: one row's arrays, the rows that a process needs, and reading ahead.

Worker processes import this module and what it needs, and that is not TensorFlow.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import grain
import numpy as np
from absl import flags

from archobj_jax.data.block_rows import BlockRows
from archobj_jax.data.example_store import ExampleStore
from archobj_jax.data.plan import Plan
from archobj_jax.data.rows import Rows
from archobj_jax.data.token_ids import TokenIds
from archobj_jax.objectives import AsGiven, Layout, WindowObjective, rng_for

Batch = dict[str, np.ndarray]

_ENDLESS = 1 << 60  # Grain takes sys.maxsize for endless, and overflows on batching it


@dataclass(frozen=True)
class RowMaker:
    """Makes the model's arrays of a row of windows; what a worker process receives.

    Attributes:
      rows: where the tokens come from.
      objective: makes examples of them.
      layout: makes model arrays of those.
      lengths: tokens a row has of each feature.
      ids: of the vocabulary.
      seed: of the objective's randomness.
    """

    rows: Rows | BlockRows
    objective: WindowObjective
    layout: Layout
    lengths: Mapping[str, int]
    ids: TokenIds
    seed: int

    def __call__(self, index: int, row: int) -> Batch:
        """Returns row `row` of the epoch that the endless sequence is in at `index`."""
        tokens = self.rows.read(index // len(self.rows), row)
        rng = rng_for(self.seed, index)
        examples = self.objective.examples(tokens, rng, self.lengths, self.ids)
        return self.layout.row(examples, self.lengths)


@dataclass(frozen=True)
class PackedRowMaker:
    """Makes the model's arrays of a row of packed examples; what a worker process receives.

    Attributes:
      plan: which examples share a row.
      store: where they come from.
      objective: cuts them.
      layout: makes model arrays of them.
      lengths: tokens a row has of each feature.
    """

    plan: Plan
    store: ExampleStore
    objective: AsGiven
    layout: Layout
    lengths: Mapping[str, int]

    def __call__(self, row: int) -> Batch:
        """Returns row `row` of the plan."""
        documents = (self.store.read(number) for number in self.plan.row(row).tolist())
        examples = [self.objective.example(document, self.lengths) for document in documents]
        return self.layout.row(examples, self.lengths)


class LocalBatches(grain.MapDataset):
    """The rows of each global batch that one process needs, as batches or as parts of them.

    Element e is part `e % parts` of batch `e // parts`.

    Args:
      rows: rows of the global batches.
      batch_size: rows of a global batch.
      local_rows: int [local rows], which of them.
      filler: what stands for a row beyond the last in the last batch, if rows come to an end.
      parts: into how many a batch is divided.
    """

    def __init__(
        self,
        rows: grain.MapDataset,
        batch_size: int,
        local_rows: np.ndarray,
        filler: Batch,
        parts: int = 1,
    ):
        super().__init__(rows)
        self._rows, self._batch_size, self._filler = rows, batch_size, filler
        self._parts = [part.tolist() for part in np.array_split(np.asarray(local_rows), parts)]
        self._count = len(rows)

    def __len__(self) -> int:
        batches = min(-(-self._count // self._batch_size), _ENDLESS // len(self._parts))
        return batches * len(self._parts)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        step, part = divmod(index, len(self._parts))
        first = step * self._batch_size
        made = [self._row(first + row) for row in self._parts[part]]
        return {name: np.stack([row[name] for row in made]) for name in self._filler}

    def _row(self, row: int) -> Batch:
        return self._rows[row] if row < self._count else self._filler


@dataclass(frozen=True)
class Ahead:
    """What makes batches before they are asked for.

    Attributes:
      batches: how many are made ahead.
      threads: how many make them, in each process.
      workers: processes that do; 0 for this one.
    """

    batches: int = 8
    threads: int = 2
    workers: int = 0


class Batches(Iterator[Batch]):
    """An iterator over batches that prepares some ahead; `close` stops its threads and workers.

    Args:
      iterator: over the parts of batches.
      parts: that make a batch, one after the other.
    """

    def __init__(self, iterator: grain.DatasetIterator, parts: int):
        self._iterator, self._parts = iterator, parts

    def __next__(self) -> Batch:
        if self._parts == 1:
            return next(self._iterator)
        parts = [next(self._iterator) for _ in range(self._parts)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops what prepares batches; none can be taken afterwards."""
        self._iterator.close()


class EvalBatches:
    """The batches of one pass over a split, the same at each iteration; `len` is their number."""

    def __init__(self, batches: grain.MapDataset):
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Batches:
        return iterate(self._batches, Ahead())


def iterate(batches: grain.MapDataset, ahead: Ahead, parts: int = 1) -> Batches:
    """Returns an iterator over batches that prepares some ahead.

    Worker i of n makes every n-th part, from the i-th on; with as many parts as workers it always
    makes the same rows of a batch, and so reads what no other worker reads.

    Args:
      batches: parts of batches, the first of a batch first.
      ahead: what prepares them.
      parts: that make a batch.
    """
    options = grain.ReadOptions(num_threads=ahead.threads, prefetch_buffer_size=ahead.batches)
    dataset = batches.to_iter_dataset(options)
    if ahead.workers:
        if not flags.FLAGS.is_parsed():  # Grain reads its own flags, which we never set
            flags.FLAGS.mark_as_parsed()
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=ahead.workers))
    return Batches(iter(dataset), parts)
