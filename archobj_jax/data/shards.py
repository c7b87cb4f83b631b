"""Making one shard of the token cache: tokenised documents, permuted and grouped into records."""

import dataclasses
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import seqio
import tensorflow as tf
from array_record.python.array_record_module import ArrayRecordWriter

from archobj_jax.data import atomic, manifest, records, registry, vocabularies
from archobj_jax.errors import MachineError, UserError
from archobj_jax.objectives import rng_for

RECORD_TOKENS = 8192
"""Documents are added to a record until it holds this many tokens: one read serves a few rows."""

EXAMPLE_RECORD_TOKENS = 2048
"""The same where documents are examples: each is read alone, and its whole record with it."""

PERMUTED_DOCUMENTS = 1 << 20
"""Documents are permuted within windows of this many, which bounds the memory of a worker."""

_WRITER_OPTIONS = "group_size:1,zstd:3"  # a group is the unit of reading; rows are read at random
_ORDER_SEED = 0x0DE5


@dataclass(frozen=True)
class Job:
    """One shard to make; small and picklable, so that any process can take it.

    Attributes:
      task: name of the task.
      modules: modules to import before looking it up.
      split: split of the task.
      index: which shard of the source.
      count: shards of the source.
      folder: where the split's cache lies.
      cache_dir: folder above, for a vocabulary that is trained into it.
      vocabulary_fingerprint: of the vocabulary that the cache is for.
    """

    task: str
    modules: tuple[str, ...]
    split: str
    index: int
    count: int
    folder: Path
    cache_dir: Path
    vocabulary_fingerprint: str

    @property
    def path(self) -> Path:
        """The ArrayRecord file to make."""
        return self.folder / f"shard-{self.index:05d}-of-{self.count:05d}.array_record"

    @property
    def note(self) -> Path:
        """A JSON file beside it that says the shard is finished, and what it holds."""
        return self.path.with_suffix(".json")


Document = tuple[np.ndarray, ...]
"""The tokens of each of its features: integer [length]."""


class Tokenised:
    """Counts, as documents pass by, what the manifest records of them."""

    def __init__(self) -> None:
        self.documents = self.empty = self.tokens = self.text_bytes = 0

    def count(self, document: Document, texts: Iterable[bytes]) -> None:
        """Adds one document and the texts that it was made from."""
        self.documents += 1
        self.tokens += sum(map(len, document))
        self.text_bytes += sum(map(len, texts))


@dataclass(frozen=True)
class Written:
    """What `_write` says of the documents in a shard.

    Attributes:
      index: unsigned [records + 1, 2], tokens and documents before each record, in the narrowest
        type that holds them: a process reads it of every shard.
      lengths: int32 [documents, features].
    """

    index: np.ndarray
    lengths: np.ndarray


def finished(job: Job) -> manifest.Shard | None:
    """Returns the shard that an earlier run made for `job`, or None if it is still to be made."""
    try:
        note = json.loads(job.note.read_text())
        shard = manifest.Shard(**note["shard"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not begun, or cut off before the note was whole
    same = note["vocabulary_fingerprint"] == job.vocabulary_fingerprint
    return shard if same and all((job.folder / name).exists() for name in shard.sums) else None


def build(job: Job, progress: Callable[[int, int], None] | None = None) -> manifest.Shard:
    """Makes the shard of `job`, its index and the note that it is finished.

    Args:
      job: which shard.
      progress: called with further documents and tokens as they are written.

    Raises:
      UserError: a record of the source, or a step, is not what it must be.
      MachineError: the shard cannot be written.
    """
    task = registry.find(job.task, job.modules)
    ids = vocabularies.load(registry.vocabulary(task), job.cache_dir)
    features = registry.objective(task).document_features
    counts = Tokenised()
    documents = permuted(_documents(task, features, job, counts), job.index)
    temporary = job.path.with_name(f"{job.path.name}.{os.getpid()}.tmp")
    try:
        written = _write(
            temporary, documents, len(features), records.token_dtype(ids.vocab_size), progress
        )
        with _writing(job.path):
            return _finish(job, temporary, written, counts)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:  # RuntimeError: what ArrayRecord makes of a full disk
        raise MachineError(
            f"shard {path} cannot be written ({error}); shards finished before are kept: free "
            "space or name another CACHE_DIR, then run the same command again"
        ) from error


def _finish(job: Job, temporary: Path, written: Written, counts: Tokenised) -> manifest.Shard:
    index, lengths = _npy(written.index), _npy(written.lengths)
    several = written.lengths.shape[1] > 1
    shard = manifest.Shard(
        file=job.path.name,
        records=len(written.index) - 1,
        documents=counts.documents,
        empty=counts.empty,
        tokens=counts.tokens,
        text_bytes=counts.text_bytes,
        bytes=temporary.stat().st_size,
        sha256=manifest.sha256(temporary),
        index_sha256=hashlib.sha256(index).hexdigest(),
        lengths_sha256=hashlib.sha256(lengths).hexdigest() if several else None,
    )
    atomic.write(job.folder / shard.index_file, index)
    if several:
        atomic.write(job.folder / shard.lengths_file, lengths)
    os.replace(temporary, job.path)
    note = {
        "vocabulary_fingerprint": job.vocabulary_fingerprint,
        "shard": dataclasses.asdict(shard),
    }
    manifest.write_json(job.note, note)
    return shard


def _npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    return content.getvalue()


def _documents(
    task: seqio.Task, features: tuple[str, ...], job: Job, counts: Tokenised
) -> Iterator[Document]:
    """Yields the documents of the shard that have targets: int32 [length] of each feature."""
    info = seqio.ShardInfo(index=job.index, num_shards=job.count)
    source = task.source
    try:
        dataset = source.get_dataset(split=job.split, shuffle=False, shard_info=info)
        dataset = task.preprocess_precache(dataset, seed=job.index)
        _check_spec(task, features, dataset.element_spec)
        for example in dataset.prefetch(tf.data.AUTOTUNE).as_numpy_iterator():
            if not len(example[registry.FEATURE]):
                counts.empty += 1
                continue
            document = tuple(example[name] for name in features)
            counts.count(document, (example.get(f"{name}_pretokenized", b"") for name in features))
            yield document
    except tf.errors.OpError as error:
        # What a source raises inside tf.data arrives as a TensorFlow error; ours keep the first.
        problem = getattr(source, "problem", None)
        raise (problem or error) from error


def _check_spec(
    task: seqio.Task, features: tuple[str, ...], spec: dict[str, tf.TensorSpec]
) -> None:
    for name in features:
        found = spec.get(name)
        if found is None or not found.dtype.is_integer or found.shape.rank != 1:
            raise UserError(
                f"task '{task.name}': the steps before its CacheDatasetPlaceholder give {spec}; "
                f"expected '{name}' as integer [length], the tokens of a document"
            )


def permuted(documents: Iterable[Any], shard: int) -> Iterator[Any]:
    """Yields the documents in a random order that depends on `shard` and their number alone."""
    window: list[Any] = []
    rng = rng_for(_ORDER_SEED, shard)
    for document in documents:
        window.append(document)
        if len(window) == PERMUTED_DOCUMENTS:
            yield from (window[i] for i in rng.permutation(len(window)))
            window = []
    yield from (window[i] for i in rng.permutation(len(window)))


def _write(
    path: Path,
    documents: Iterator[Document],
    features: int,
    dtype: np.dtype,
    progress: Callable[[int, int], None] | None,
) -> Written:
    """Writes the records, of documents with so many features."""
    with _writing(path):
        writer = ArrayRecordWriter(str(path), _WRITER_OPTIONS)
    sizes = [(0, 0)]
    lengths = [np.zeros((0, features), np.int32)]
    try:
        for group in _groups(documents, RECORD_TOKENS if features == 1 else EXAMPLE_RECORD_TOKENS):
            sequences = [sequence for document in group for sequence in document]
            with _writing(path):
                writer.write(records.encode(sequences, dtype))
            counted = np.array([len(sequence) for sequence in sequences], np.int32)
            lengths.append(counted.reshape(-1, features))
            sizes.append((int(counted.sum()), len(group)))
            if progress:
                progress(len(group), sizes[-1][0])
    finally:
        with _writing(path):
            writer.close()
    index = np.cumsum(np.array(sizes, np.int64), axis=0)
    return Written(index.astype(np.min_scalar_type(index[-1].max())), np.concatenate(lengths))


def _groups(documents: Iterator[Document], size: int) -> Iterator[list[Document]]:
    """Yields the documents in groups of at least `size` tokens, but for the last."""
    group: list[Document] = []
    tokens = 0
    for document in documents:
        group.append(document)
        tokens += sum(map(len, document))
        if tokens >= size:
            yield group
            group, tokens = [], 0
    if group:
        yield group
