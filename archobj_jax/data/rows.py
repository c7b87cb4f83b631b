"""The token stream of a cache, read at any place, and the rows that are cut from it."""

import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from archobj_jax.data import manifest, records
from archobj_jax.errors import MachineError, UserError
from archobj_jax.objectives import rng_for

if TYPE_CHECKING:  # at run time it would bring TensorFlow into every worker process
    from archobj_jax.data.cache import Cache

_HELD_RECORDS = 128
"""Decoded records that a stream keeps: 4 MB, all of a small corpus, neighbours in a large one."""


class TokenStream:
    """All documents of a cache laid end to end, an EOS after each if `eos_id` is given.

    Reading costs a few records, wherever; the index lies memory-mapped. Threads may share a
    stream; a pickled one opens its files anew.

    Args:
      cache: the cached split.
      eos_id: the id to put after each document, or None for none.
    """

    def __init__(self, cache: "Cache", eos_id: int | None):
        self._folder, self._shards, self._eos_id = cache.folder, cache.manifest.shards, eos_id
        ends = eos_id is not None
        sizes = [shard.tokens + ends * shard.documents for shard in self._shards]
        self._starts = np.cumsum([0, *sizes])
        self._open()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, start: int, count: int) -> np.ndarray:
        """Returns int32 [count]: the tokens from `start` on, beginning again after the last.

        Raises:
          MachineError: a record is damaged.
        """
        parts = []
        while count > 0:
            start %= len(self)
            part = self._read_shard(start, count)
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return np.concatenate(parts) if len(parts) != 1 else parts[0]

    def _read_shard(self, start: int, count: int) -> np.ndarray:
        """Returns up to `count` tokens from `start` on, as many as lie in one shard."""
        # Empty shards share their start with the next one: the last such is the one that has it.
        shard = int(np.searchsorted(self._starts, start, side="right")) - 1
        offset = start - int(self._starts[shard])
        starts = self._record_starts(shard)
        first = int(np.searchsorted(starts, offset, side="right")) - 1
        last = int(np.searchsorted(starts, offset + count, side="left"))
        tokens = [
            self._record(shard, record) for record in range(first, min(last, len(starts) - 1))
        ]
        begin = offset - int(starts[first])
        return np.concatenate(tokens)[begin : begin + count]

    def _record_starts(self, shard: int) -> np.ndarray:
        """Returns int64 [records + 1]: the place in the shard where each record begins."""
        with self._lock:
            if shard not in self._indices:
                self._indices[shard] = self._load_index(shard)
            return self._indices[shard]

    def _load_index(self, shard: int) -> np.ndarray:
        path = self._folder / self._shards[shard].index_file
        expected = self._shards[shard]
        try:
            index = np.load(path, mmap_mode="r")
            totals = (expected.tokens, expected.documents)
            if index.shape != (expected.records + 1, 2) or tuple(index[-1]) != totals:
                raise ValueError("its sizes are not the manifest's")
        except (OSError, ValueError, EOFError) as error:
            raise MachineError(
                f"index {path} is damaged ({error}); {manifest.mend(path)}"
            ) from error
        return index[:, 0] if self._eos_id is None else index.sum(axis=1)

    def _record(self, shard: int, record: int) -> np.ndarray:
        """Returns int32 [tokens], and ends of documents if any: one record, from memory or disk."""
        key = shard, record
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        tokens = self._load_record(shard, record)
        with self._lock:
            self._held[key] = tokens
            if len(self._held) > _HELD_RECORDS:
                self._held.popitem(last=False)
        return tokens

    def _load_record(self, shard: int, record: int) -> np.ndarray:
        path = self._folder / self._shards[shard].file
        try:
            decoded = records.decode(self._reader(shard, path).read([record])[0])
        except (OSError, RuntimeError, ValueError, IndexError) as error:
            raise MachineError(
                f"shard {path}, record {record}, is damaged ({error}); {manifest.mend(path)}"
            ) from error
        if self._eos_id is None:
            return decoded.tokens
        return _with_ends(decoded, self._eos_id)

    def _reader(self, shard: int, path: Path) -> ArrayRecordReader:
        with self._lock:
            if shard not in self._readers:
                # Reading ahead starts a thread and a buffer per file, for reads that never come.
                options = "readahead_buffer_size:0,max_parallelism:0"
                self._readers[shard] = ArrayRecordReader(str(path), options)
            return self._readers[shard]

    def _open(self) -> None:
        self._lock = threading.Lock()
        self._readers: dict[int, ArrayRecordReader] = {}
        self._indices: dict[int, np.ndarray] = {}
        self._held: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()

    def __getstate__(self) -> dict[str, object]:
        opened = ("_lock", "_readers", "_indices", "_held")
        return {key: value for key, value in self.__dict__.items() if key not in opened}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._open()


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
        if self._seed is None:
            return 0
        return int(rng_for(self._seed, epoch).integers(self._window))


def _with_ends(record: records.Record, eos_id: int) -> np.ndarray:
    """Returns int32 [tokens + documents]: the documents of `record`, each followed by `eos_id`."""
    stream = np.empty(len(record.tokens) + len(record.lengths), np.int32)
    ends = np.cumsum(record.lengths + 1) - 1
    inside = np.ones(len(stream), bool)
    inside[ends] = False
    stream[inside] = record.tokens
    stream[ends] = eos_id
    return stream
