"""Reading records of token caches at random, from threads and from worker processes."""

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from archobj_jax.data import manifest, records
from archobj_jax.errors import MachineError

if TYPE_CHECKING:  # at run time it would bring TensorFlow into every worker process
    from archobj_jax.data.cache import Cache

Content = TypeVar("Content")


class CacheReader(ABC, Generic[Content]):
    """The shards of some caches, one after the other; what a record holds is the subclass's matter.

    Indices lie memory-mapped, and the records read last are kept. Threads may share a reader; a
    pickled one opens its files anew.

    Args:
      caches: the cached splits.
    """

    held_records: ClassVar[int]
    """How many decoded records are kept."""

    def __init__(self, caches: "Sequence[Cache]"):
        self.shards: list[tuple[Path, manifest.Shard]] = [
            (cache.folder, shard) for cache in caches for shard in cache.manifest.shards
        ]
        self._open()

    @abstractmethod
    def _starts_in(self, index: np.ndarray) -> np.ndarray:
        """Returns int64 [records + 1], where each record begins, of a shard's index."""

    @abstractmethod
    def _content(self, record: records.Record) -> Content:
        """Returns what is kept of a record."""

    def record_starts(self, shard: int) -> np.ndarray:
        """Returns int64 [records + 1]: the place in the shard where each record begins.

        Raises:
          MachineError: the index is damaged.
        """
        with self._lock:
            if shard not in self._indices:
                self._indices[shard] = self._starts_in(self._load_index(shard))
            return self._indices[shard]

    def record(self, shard: int, record: int) -> Content:
        """Returns the content of a record, from memory or disk.

        Raises:
          MachineError: the record is damaged.
        """
        key = shard, record
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        content = self._load_record(shard, record)
        with self._lock:
            self._held[key] = content
            if len(self._held) > self.held_records:
                self._held.popitem(last=False)
        return content

    def _load_index(self, shard: int) -> np.ndarray:
        folder, expected = self.shards[shard]
        path = folder / expected.index_file
        try:
            index = np.load(path, mmap_mode="r")
            totals = (expected.tokens, expected.documents)
            if index.shape != (expected.records + 1, 2) or tuple(index[-1]) != totals:
                raise ValueError("its sizes are not the manifest's")
        except (OSError, ValueError, EOFError) as error:
            raise MachineError(
                f"index {path} is damaged ({error}); {manifest.mend(path)}"
            ) from error
        return index

    def _load_record(self, shard: int, record: int) -> Content:
        folder, expected = self.shards[shard]
        path = folder / expected.file
        try:
            return self._content(records.decode(self._reader(shard, path).read([record])[0]))
        except (OSError, RuntimeError, ValueError, IndexError) as error:
            raise MachineError(
                f"shard {path}, record {record}, is damaged ({error}); {manifest.mend(path)}"
            ) from error

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
        self._held: OrderedDict[tuple[int, int], Content] = OrderedDict()

    def __getstate__(self) -> dict[str, object]:
        opened = ("_lock", "_readers", "_indices", "_held")
        return {key: value for key, value in self.__dict__.items() if key not in opened}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._open()
