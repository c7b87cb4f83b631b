"""The examples of some caches, read one at a time by their number."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from archobj_jax.data import manifest, records
from archobj_jax.data.reader import CacheReader
from archobj_jax.errors import MachineError
from archobj_jax.objectives import Example

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archobj_jax.data.cache import Cache


class Examples(NamedTuple):
    """The examples of a record: int32 [tokens], and int64 [examples, features + 1] bounds."""

    tokens: np.ndarray
    bounds: np.ndarray


class ExampleStore(CacheReader[Examples]):
    """The examples of all caches, numbered through: those of the first cache come first.

    Args:
      caches: cached splits whose documents are examples, of the same features.
    """

    held_records = 4096  # 32 MB: examples come in no order, so a large data set is read anew

    def __init__(self, caches: "Sequence[Cache]"):
        super().__init__(caches)
        self._features = caches[0].manifest.features
        self._starts = np.cumsum([0, *(shard.documents for _, shard in self.shards)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, number: int) -> Example:
        """Returns an example as it was tokenised: int32 [length] of each feature, a view.

        Raises:
          MachineError: its record is damaged.
        """
        # Empty shards share their start with the next one: the last such is the one that has it.
        shard = int(self._starts.searchsorted(number, side="right")) - 1
        within = number - int(self._starts[shard])
        starts = self.record_starts(shard)
        record = int(starts.searchsorted(within, side="right")) - 1
        tokens, bounds = self.record(shard, record)
        places = bounds[within - int(starts[record])].tolist()
        return {name: tokens[places[i] : places[i + 1]] for i, name in enumerate(self._features)}

    def _starts_in(self, index: np.ndarray) -> np.ndarray:
        return index[:, 1].astype(np.int64)

    def _content(self, record: records.Record) -> Examples:
        ends = np.cumsum(record.lengths)
        count = len(self._features)
        starts = np.concatenate([[0], ends[count - 1 : -1 : count]])
        return Examples(record.tokens, np.column_stack([starts, ends.reshape(-1, count)]))


def lengths(cache: "Cache") -> np.ndarray:
    """Returns int32 [examples, features], the tokens of each example; reads no token.

    Raises:
      MachineError: a file of lengths is damaged.
    """
    return np.concatenate([_shard_lengths(cache, shard) for shard in cache.manifest.shards])


def _shard_lengths(cache: "Cache", shard: manifest.Shard) -> np.ndarray:
    path = cache.folder / shard.lengths_file
    try:
        found = np.load(path)
        shape = (shard.documents, len(cache.manifest.features))
        if found.shape != shape or found.dtype != np.int32 or found.sum() != shard.tokens:
            raise ValueError("its sizes are not the manifest's")
    except (OSError, ValueError, EOFError) as error:
        raise MachineError(
            f"lengths {path} are damaged ({error}); {manifest.mend(path)}"
        ) from error
    return found
