"""Reading records of token caches at random, from threads and from worker processes."""

import resource
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from archobj_jax.data import manifest, records
from archobj_jax.data.held import Held
from archobj_jax.errors import MachineError

if TYPE_CHECKING:  # at run time it would bring TensorFlow into every worker process
    from archobj_jax.data.cache import Cache

Content = TypeVar("Content")

# Records that lie together come by one read, as long as they fit into the buffer; more buffers and
# threads would be for reads that never come. A footer of 20,000 records, as C4's shards have, comes
# by one read too.
_READER_OPTIONS = "readahead_buffer_size:512k,max_parallelism:0,footer_prefetch_bytes:192k"

_OTHER_FILES = 256


class CacheReader(ABC, Generic[Content]):
    """The shards of some caches, one after the other; what a record holds is the subclass's matter.

    Of each shard that was read, the index and an open file stay in memory, some 30 bytes a record;
    of the records, those that were read last. Threads may share a reader; a pickled one opens its
    files anew.

    Args:
      caches: the cached splits.
    """

    held_records: ClassVar[int]
    """How many decoded records are kept."""

    def __init__(self, caches: "Sequence[Cache]"):
        self.shards: list[tuple[str, manifest.Shard]] = [
            (str(cache.folder), shard) for cache in caches for shard in cache.manifest.shards
        ]
        self._open()

    @abstractmethod
    def _starts_in(self, index: np.ndarray) -> np.ndarray:
        """Returns integer [records + 1], where each record begins, of a shard's index."""

    @abstractmethod
    def _content(self, record: records.Record) -> Content:
        """Returns what is kept of a record."""

    def record_starts(self, shard: int) -> np.ndarray:
        """Returns integer [records + 1]: the place in the shard where each record begins.

        Raises:
          MachineError: the index is damaged.
        """
        return self._indices.get(shard, lambda: self._starts_in(self._load_index(shard)))

    def record(self, shard: int, record: int) -> Content:
        """Returns the content of a record, from memory or disk.

        Raises:
          MachineError: the record is damaged.
        """
        return self._held.get(
            (shard, record), lambda: self.load_records(shard, record, record + 1)[0]
        )

    def load_records(self, shard: int, first: int, end: int) -> list[Content]:
        """Returns the contents of the records from `first` to before `end`, by one read of disk.

        Raises:
          MachineError: a record is damaged.
        """
        try:
            loaded = self._reader(shard).read(first, end)
        except (OSError, RuntimeError, ValueError, IndexError) as error:
            if end - first == 1:
                raise self._damaged(shard, first, error) from error
            # The reader does not say which of them it was.
            return [self.load_records(shard, n, n + 1)[0] for n in range(first, end)]
        return [self._decoded(shard, first + n, content) for n, content in enumerate(loaded)]

    def _decoded(self, shard: int, record: int, content: bytes) -> Content:
        try:
            return self._content(records.decode(content))
        except ValueError as error:
            raise self._damaged(shard, record, error) from error

    def _damaged(self, shard: int, record: int, error: Exception) -> MachineError:
        path = self._path(shard)
        return MachineError(
            f"shard {path}, record {record}, is damaged ({error}); {manifest.mend(path)}"
        )

    def _load_index(self, shard: int) -> np.ndarray:
        folder, expected = self.shards[shard]
        path = Path(folder, expected.index_file)
        try:
            index = np.load(path)
            totals = (expected.tokens, expected.documents)
            if index.shape != (expected.records + 1, 2) or tuple(index[-1]) != totals:
                raise ValueError("its sizes are not the manifest's")
        except (OSError, ValueError, EOFError) as error:
            raise MachineError(
                f"index {path} is damaged ({error}); {manifest.mend(path)}"
            ) from error
        return index

    def _reader(self, shard: int) -> ArrayRecordReader:
        path = self._path(shard)
        return self._readers.get(shard, lambda: ArrayRecordReader(str(path), _READER_OPTIONS))

    def _path(self, shard: int) -> Path:
        folder, expected = self.shards[shard]
        return Path(folder, expected.file)

    def _open(self) -> None:
        self._readers: Held[int, ArrayRecordReader] = Held(_open_files(len(self.shards)))
        self._indices: Held[int, np.ndarray] = Held()
        self._held: Held[tuple[int, int], Content] = Held(self.held_records)

    def __getstate__(self) -> dict[str, object]:
        opened = ("_readers", "_indices", "_held")
        return {key: value for key, value in self.__dict__.items() if key not in opened}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._open()


def _open_files(wanted: int) -> int:
    """Returns how many files may be open for reading, once the process may have more open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < wanted + _OTHER_FILES:
        # Most systems let a process open 1,024 files, and more if it asks.
        soft = soft + wanted if hard == unlimited else min(soft + wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == unlimited else max(min(wanted, soft - _OTHER_FILES), 1)
