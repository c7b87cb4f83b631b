"""From rows to batches: one row's arrays, the rows that a process needs, and reading ahead.

Worker processes import this module and what it needs, and that is not TensorFlow.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import grain
import numpy as np
from absl import flags

from archobj_jax.data.example_store import ExampleStore
from archobj_jax.data.plan import Plan
from archobj_jax.data.rows import Rows
from archobj_jax.data.token_ids import TokenIds
from archobj_jax.objectives import AsGiven, Layout, WindowObjective, rng_for

Batch = dict[str, np.ndarray]

_THREADS = 4
_BATCHES_AHEAD = 8
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

    rows: Rows
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


class LocalRows(grain.MapDataset):
    """The rows of each global batch that one process needs, batch after batch.

    Args:
      rows: rows of the global batches.
      batch_size: rows of a global batch.
      local_rows: int [local rows], which of them.
      filler: what stands for a row beyond the last in the last batch, if rows come to an end.
    """

    def __init__(
        self, rows: grain.MapDataset, batch_size: int, local_rows: np.ndarray, filler: Batch
    ):
        super().__init__(rows)
        self._rows, self._batch_size = rows, batch_size
        self._local, self._filler = np.asarray(local_rows), filler

    def __len__(self) -> int:
        if len(self._rows) > _ENDLESS:
            return _ENDLESS
        return -(-len(self._rows) // self._batch_size) * len(self._local)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        step, local = divmod(index, len(self._local))
        row = step * self._batch_size + int(self._local[local])
        return self._rows[row] if row < len(self._rows) else self._filler


class Batches(Iterator[Batch]):
    """An iterator over batches that prepares some ahead; `close` stops its threads and workers."""

    def __init__(self, iterator: grain.DatasetIterator):
        self._iterator = iterator

    def __next__(self) -> Batch:
        return next(self._iterator)

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
        return iterate(self._batches, workers=0)


def iterate(batches: grain.MapDataset, workers: int) -> Batches:
    """Returns an iterator over `batches` that prepares some ahead, in `workers` processes or here.

    Each worker makes every `workers`-th batch, so that no batch depends on their number.
    """
    options = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=_BATCHES_AHEAD)
    dataset = batches.to_iter_dataset(options)
    if workers:
        if not flags.FLAGS.is_parsed():  # Grain reads its own flags, which we never set
            flags.FLAGS.mark_as_parsed()
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
    return Batches(iter(dataset))
