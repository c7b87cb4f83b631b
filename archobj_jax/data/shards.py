"""Making one shard of the token cache: tokenised documents, permuted and grouped into records."""

import dataclasses
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import seqio
import tensorflow as tf
from array_record.python.array_record_module import ArrayRecordWriter

from archobj_jax.data import atomic, manifest, records, registry, vocabularies
from archobj_jax.errors import MachineError, UserError
from archobj_jax.objectives import rng_for

RECORD_TOKENS = 8192
"""Documents are added to a record until it holds this many tokens: one read serves a few rows."""

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


class Tokenised:
    """Counts, as documents pass by, what the manifest records of them."""

    def __init__(self) -> None:
        self.documents = self.tokens = self.text_bytes = 0

    def count(self, tokens: np.ndarray, text: bytes) -> None:
        """Adds one document of int [length] `tokens` made from `text`."""
        self.documents += 1
        self.tokens += len(tokens)
        self.text_bytes += len(text)


def finished(job: Job) -> manifest.Shard | None:
    """Returns the shard that an earlier run made for `job`, or None if it is still to be made."""
    try:
        note = json.loads(job.note.read_text())
        shard = manifest.Shard(**note["shard"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not begun, or cut off before the note was whole
    same = note["vocabulary_fingerprint"] == job.vocabulary_fingerprint
    files = job.path, job.folder / shard.index_file
    return shard if same and all(path.exists() for path in files) else None


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
    counts = Tokenised()
    documents = _permuted(_documents(task, job, counts), job.index)
    temporary = job.path.with_name(f"{job.path.name}.{os.getpid()}.tmp")
    try:
        index = _write(temporary, documents, records.token_dtype(ids.vocab_size), progress)
        with _writing(job.path):
            return _finish(job, temporary, index, counts)
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


def _finish(job: Job, temporary: Path, index: np.ndarray, counts: Tokenised) -> manifest.Shard:
    content = io.BytesIO()
    np.save(content, index)
    shard = manifest.Shard(
        file=job.path.name,
        records=len(index) - 1,
        documents=counts.documents,
        tokens=counts.tokens,
        text_bytes=counts.text_bytes,
        bytes=temporary.stat().st_size,
        sha256=manifest.sha256(temporary),
        index_sha256=hashlib.sha256(content.getvalue()).hexdigest(),
    )
    atomic.write(job.folder / shard.index_file, content.getvalue())
    os.replace(temporary, job.path)
    note = {
        "vocabulary_fingerprint": job.vocabulary_fingerprint,
        "shard": dataclasses.asdict(shard),
    }
    manifest.write_json(job.note, note)
    return shard


def _documents(task: seqio.Task, job: Job, counts: Tokenised) -> Iterator[np.ndarray]:
    """Yields the non-empty documents of the shard: int32 [length]."""
    info = seqio.ShardInfo(index=job.index, num_shards=job.count)
    source = task.source
    try:
        dataset = source.get_dataset(split=job.split, shuffle=False, shard_info=info)
        dataset = task.preprocess_precache(dataset, seed=job.index)
        _check_spec(task, dataset.element_spec)
        for example in dataset.prefetch(tf.data.AUTOTUNE).as_numpy_iterator():
            tokens = example[registry.FEATURE]
            if len(tokens):
                counts.count(tokens, example.get(f"{registry.FEATURE}_pretokenized", b""))
                yield tokens
    except tf.errors.OpError as error:
        # What a source raises inside tf.data arrives as a TensorFlow error; ours keep the first.
        problem = getattr(source, "problem", None)
        raise (problem or error) from error


def _check_spec(task: seqio.Task, spec: dict[str, tf.TensorSpec]) -> None:
    found = spec.get(registry.FEATURE)
    if found is None or not found.dtype.is_integer or found.shape.rank != 1:
        raise UserError(
            f"task '{task.name}': the steps before its CacheDatasetPlaceholder give {spec}; "
            f"expected '{registry.FEATURE}' as integer [length], a tokenised document"
        )


def _permuted(documents: Iterator[np.ndarray], shard: int) -> Iterator[np.ndarray]:
    """Yields the documents in a random order that depends on `shard` and their number alone."""
    window: list[np.ndarray] = []
    rng = rng_for(_ORDER_SEED, shard)
    for document in documents:
        window.append(document)
        if len(window) == PERMUTED_DOCUMENTS:
            yield from (window[i] for i in rng.permutation(len(window)))
            window = []
    yield from (window[i] for i in rng.permutation(len(window)))


def _write(
    path: Path,
    documents: Iterator[np.ndarray],
    dtype: np.dtype,
    progress: Callable[[int, int], None] | None,
) -> np.ndarray:
    """Writes the records; returns the index, int64 [records + 1, 2]."""
    with _writing(path):
        writer = ArrayRecordWriter(str(path), _WRITER_OPTIONS)
    sizes = [(0, 0)]
    try:
        for group in _groups(documents):
            with _writing(path):
                writer.write(records.encode(group, dtype))
            sizes.append((sum(map(len, group)), len(group)))
            if progress:
                progress(len(group), sizes[-1][0])
    finally:
        with _writing(path):
            writer.close()
    return np.cumsum(np.array(sizes, np.int64), axis=0)


def _groups(documents: Iterator[np.ndarray]) -> Iterator[list[np.ndarray]]:
    group: list[np.ndarray] = []
    tokens = 0
    for document in documents:
        group.append(document)
        tokens += len(document)
        if tokens >= RECORD_TOKENS:
            yield group
            group, tokens = [], 0
    if group:
        yield group
