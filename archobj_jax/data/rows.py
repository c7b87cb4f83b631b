"""The token stream of a cache, read at any place, and the rows that are cut from it."""

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from archobj_jax.data import records
from archobj_jax.data.reader import CacheReader
from archobj_jax.errors import UserError
from archobj_jax.objectives import rng_for

if TYPE_CHECKING:  # at run time it would bring TensorFlow into every worker process
    from archobj_jax.data.cache import Cache

_RecordsOf = Callable[[int, int, int], list[np.ndarray]]


class TokenStream(CacheReader[np.ndarray]):
    """All documents of a cache laid end to end, an EOS after each if `eos_id` is given.

    Reading costs a few records, wherever.

    Args:
      cache: the cached split, of documents with one feature.
      eos_id: the id to put after each document, or None for none.
    """

    held_records = 2048  # 64 MB: all of a corpus that is shuffled row by row

    def __init__(self, cache: "Cache", eos_id: int | None):
        super().__init__([cache])
        self._eos_id = eos_id
        ends = eos_id is not None
        sizes = [shard.tokens + ends * shard.documents for _, shard in self.shards]
        self._starts = np.cumsum([0, *sizes])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, start: int, count: int) -> np.ndarray:
        """Returns int32 [count]: the tokens from `start` on, beginning again after the last.

        The records that hold them are kept.

        Raises:
          MachineError: a record is damaged.
        """
        return self._read(start, count, self._kept_records)

    def load(self, start: int, count: int) -> np.ndarray:
        """Returns what `read` does, by one read of each shard; nothing is kept.

        Raises:
          MachineError: a record is damaged.
        """
        return self._read(start, count, self.load_records)

    def _kept_records(self, shard: int, first: int, end: int) -> list[np.ndarray]:
        return [self.record(shard, record) for record in range(first, end)]

    def _read(self, start: int, count: int, records_of: _RecordsOf) -> np.ndarray:
        parts = []
        while count > 0:
            start %= len(self)
            part = self._read_shard(start, count, records_of)
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return np.concatenate(parts) if len(parts) != 1 else parts[0]

    def _read_shard(self, start: int, count: int, records_of: _RecordsOf) -> np.ndarray:
        """Returns up to `count` tokens from `start` on, as many as lie in one shard."""
        # Empty shards share their start with the next one: the last such is the one that has it.
        shard = int(self._starts.searchsorted(start, side="right")) - 1
        offset = start - int(self._starts[shard])
        starts = self.record_starts(shard)
        first, end = _records_with(starts, offset, min(offset + count, int(starts[-1])))
        tokens = records_of(shard, first, end)
        begin = offset - int(starts[first])
        whole = tokens[0] if len(tokens) == 1 else np.concatenate(tokens)
        return whole[begin : begin + count]

    def _starts_in(self, index: np.ndarray) -> np.ndarray:
        starts = index[:, 0] if self._eos_id is None else index.sum(axis=1, dtype=np.int64)
        return starts.astype(np.min_scalar_type(starts[-1]))

    def _content(self, record: records.Record) -> np.ndarray:
        """Returns int32 [tokens], and ends of documents if any."""
        return record.tokens if self._eos_id is None else _with_ends(record, self._eos_id)


class Rows:
    """Windows of a token stream, addressed by epoch and index; no position is ever padding.

    Each epoch cuts the whole stream at an offset of its own, so that a token does not meet the
    same neighbours at the same places again. The stream is a ring: a row across its end goes on
    with its beginning. `len` is rows an epoch; fewer than `window` tokens are left out of each.

    Args:
      stream: where the tokens come from.
      window: tokens a row consumes.
      seed: draws the offsets; None for offset 0 in every epoch.

    Raises:
      UserError: the stream is shorter than one window.
    """

    def __init__(self, stream: TokenStream, window: int, seed: int | None):
        if len(stream) < window:
            raise UserError(
                f"the corpus has {len(stream):,} tokens, fewer than the {window:,} that one row "
                "consumes; expected shorter TASK_FEATURE_LENGTHS or more text"
            )
        self._stream, self._window, self._seed = stream, window, seed

    def __len__(self) -> int:
        return len(self._stream) // self._window

    def read(self, epoch: int, index: int) -> np.ndarray:
        """Returns int32 [window]: row `index` of `epoch`."""
        return self._stream.read(self._offset(epoch) + index * self._window, self._window)

    def _offset(self, epoch: int) -> int:
        return 0 if self._seed is None else offset(self._seed, epoch, self._window)


@lru_cache(maxsize=64)
def offset(seed: int, epoch: int, window: int) -> int:
    """Returns the token at which rows of `window` tokens begin in `epoch`, below `window`."""
    return int(rng_for(seed, epoch).integers(window))


def _records_with(starts: np.ndarray, first: int, end: int) -> tuple[int, int]:
    """Returns the first record that has a token in `first`..`end - 1`, and the one after the last.

    Args:
      starts: integer [records + 1], the first token of each record.
      first, end: between the first of these and the last.
    """
    # Of the array's own type: numpy would copy the whole array to another for each search.
    place = starts.dtype.type
    record = starts.searchsorted(place(first), side="right") - 1
    return int(record), int(starts.searchsorted(place(end), side="left"))


def _with_ends(record: records.Record, eos_id: int) -> np.ndarray:
    """Returns int32 [tokens + documents]: the documents of `record`, each followed by `eos_id`."""
    stream = np.empty(len(record.tokens) + len(record.lengths), np.int32)
    ends = np.cumsum(record.lengths + 1) - 1
    inside = np.ones(len(stream), bool)
    inside[ends] = False
    stream[inside] = record.tokens
    stream[ends] = eos_id
    return stream
