"""The token cache: a task's documents, tokenised once, on disk in ArrayRecord shards.

    <cache_dir>/<source>-<8 hex of its declaration>/<split>/
        manifest.json                          counts, declaration, vocabulary, checksums
        shard-00000-of-00008.array_record      records of tokenised documents (`records`)
        shard-00000-of-00008.index.npy         tokens and documents before each record
        shard-00000-of-00008.lengths.npy       tokens of each example, where documents are such
        shard-00000-of-00008.json              says that the shard is finished

Tasks that differ only in what comes after the cache, the objective, share it.
"""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import seqio

from archobj_jax.data import declaration, locking, manifest, registry, shards, vocabularies
from archobj_jax.data.progress import Progress
from archobj_jax.data.token_ids import TokenIds
from archobj_jax.errors import MachineError, UserError

_WORTH_PROCESSES = 64 << 20
"""Sources known to hold fewer bytes are tokenised here: starting TensorFlow takes longer."""


@dataclass(frozen=True)
class Cache:
    """One cached split, opened and checked.

    Attributes:
      folder: where it lies.
      manifest: what it holds.
      ids: the ids of its vocabulary that objectives need.
    """

    folder: Path
    manifest: manifest.Manifest
    ids: TokenIds


def cache(
    mixture_or_task_name: str,
    *,
    module: registry.Modules = None,
    cache_dir: str = vocabularies.DEFAULT_CACHE_DIR,
    splits: Sequence[str] | None = None,
    workers: int | None = None,
) -> None:
    """Tokenises a task, or every task of a mixture, and prints what is in the cache.

    What is there already is kept, after its checksums were verified.

    Args:
      mixture_or_task_name: a registered name.
      module: module, or modules, that register tasks.
      cache_dir: folder of all caches.
      splits: which splits; all of each task by default.
      workers: processes that tokenise; 0 for this one alone, by default as many as there are
        cores if the source is large.

    Raises:
      UserError: an unknown name or split, an empty or unreadable source, or a cache that was
        made with another vocabulary.
      MachineError: a damaged shard, or a disk that cannot be written.
    """
    provider = registry.find(mixture_or_task_name, module)
    for split in provider.splits if splits is None else splits:
        for task in registry.tasks(provider, split):
            opened = ensure(task, split, cache_dir, module=module, workers=workers, verify=True)
            _print_summary(task, split, opened)


def ensure(
    task: seqio.Task,
    split: str,
    cache_dir: str | os.PathLike[str],
    *,
    module: registry.Modules = None,
    workers: int | None = None,
    verify: bool = False,
) -> Cache:
    """Returns the cache of a split, made now as far as it is not there.

    Args:
      task: the task.
      split: one of its splits.
      cache_dir: folder of all caches, on a local or mounted disk.
      module: modules that a worker process must import to find the task.
      workers: as `cache` has it.
      verify: whether to read every file and compare its checksum.

    Raises:
      UserError: as `cache`.
      MachineError: as `cache`.
    """
    root = root_of(cache_dir)
    vocabulary = registry.vocabulary(task)
    ids = vocabularies.load(vocabulary, root)
    folder = root / declaration.folder(task) / split
    found = _read(folder)
    if found is None:
        with locking.locked(folder):
            found = _read(folder) or _build(task, split, root, folder, module, workers)
    _check_made_with(folder, found, vocabulary)
    _check_files(folder, found, task)
    (manifest.check_sums if verify else manifest.check_sizes)(folder, found)
    return Cache(folder, found, ids)


def _read(folder: Path) -> manifest.Manifest | None:
    try:
        found = manifest.read(folder)
    except FileNotFoundError:
        return None
    return found if manifest.is_whole(folder, found) else None


def _build(
    task: seqio.Task,
    split: str,
    root: Path,
    folder: Path,
    module: registry.Modules,
    workers: int | None,
) -> manifest.Manifest:
    vocabulary = registry.vocabulary(task)
    fingerprint = vocabularies.fingerprint(vocabulary)
    count = _shard_count(task, split)
    for left in folder.glob("*.tmp"):  # by a run that was killed
        left.unlink()
    modules = registry.module_names(module)
    jobs = [
        shards.Job(task.name, modules, split, index, count, folder, root, fingerprint)
        for index in range(count)
    ]
    made = manifest.Manifest(
        task=task.name,
        split=split,
        declaration=declaration.declare(task),
        vocabulary=vocabularies.title(vocabulary),
        vocabulary_fingerprint=fingerprint,
        features=registry.objective(task).document_features,
        shards=tuple(_build_shards(jobs, _processes(task, split, count, workers))),
        files=task.source.files(split) if hasattr(task.source, "files") else None,
    )
    _check_not_empty(made)
    try:
        made.write(folder)
    except OSError as error:
        raise MachineError(
            f"{folder / manifest.FILE} cannot be written ({error}); free space, "
            "then run the same command again"
        ) from error
    return made


def _check_not_empty(made: manifest.Manifest) -> None:
    if made.documents:
        return
    of = f"task '{made.task}', split '{made.split}'"
    if made.empty:
        raise UserError(
            f"the targets of {of}, are empty: none of its {made.empty:,} examples or documents has "
            "a token to predict; expected at least one that has"
        )
    raise UserError(
        f"the corpus of {of}, is empty: {len(made.shards)} shards hold no token; expected at least "
        "one document with text"
    )


def _shard_count(task: seqio.Task, split: str) -> int:
    source = task.source
    try:
        return len(source.list_shards(split))
    except Exception as error:
        if not isinstance(source, seqio.TfdsDataSource):
            raise
        # TensorFlow Datasets tells of data that is not there by KeyError, AssertionError and more.
        raise UserError(
            f"task '{task.name}': TensorFlow Datasets has no '{source.tfds_dataset.name}', split "
            f"'{split}', in {os.environ.get('TFDS_DATA_DIR', '~/tensorflow_datasets')} ({error}); "
            "set TFDS_DATA_DIR to where it is prepared, or read files of your own: "
            "tasks.pretraining.register_text_corpus"
        ) from error


def _build_shards(jobs: list[shards.Job], processes: int) -> list[manifest.Shard]:
    done = {job: shard for job in jobs if (shard := shards.finished(job))}
    missing = [job for job in jobs if job not in done]
    title = f"caching {jobs[0].task} {jobs[0].split}" if jobs else "caching"
    with Progress(title, len(jobs), len(done)) as progress:
        if processes == 0:
            for job in missing:
                done[job] = shards.build(job, progress.advance)
                progress.finish()
        else:
            for job, shard in _in_processes(missing, processes):
                done[job] = shard
                progress.advance(shard.documents, shard.tokens)
                progress.finish()
    return [done[job] for job in jobs]


def _in_processes(
    jobs: list[shards.Job], processes: int
) -> Iterator[tuple[shards.Job, manifest.Shard]]:
    # Spawned, not forked: TensorFlow and JAX run threads by now.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(jobs)) or 1, context) as pool:
        futures = {pool.submit(shards.build, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _processes(task: seqio.Task, split: str, shard_count: int, workers: int | None) -> int:
    if workers is not None:
        return workers
    size = getattr(task.source, "size", None)
    if shard_count == 1 or (size is not None and size(split) < _WORTH_PROCESSES):
        return 0
    return min(os.cpu_count() or 1, shard_count)


def root_of(cache_dir: str | os.PathLike[str]) -> Path:
    """Returns the absolute folder of all caches; raises UserError if that is a bucket."""
    if "://" in str(cache_dir):
        raise UserError(
            f"CACHE_DIR is '{cache_dir}'; expected a folder of this machine, as ArrayRecord reads "
            "files at random: mount the bucket (gcsfuse) and name the mounted folder"
        )
    return Path(cache_dir).absolute()


def _check_made_with(folder: Path, found: manifest.Manifest, vocabulary: seqio.Vocabulary) -> None:
    fingerprint = vocabularies.fingerprint(vocabulary)
    if fingerprint != found.vocabulary_fingerprint:
        raise UserError(
            f"the cache {folder} was made with another vocabulary: {found.vocabulary}, fingerprint "
            f"{found.vocabulary_fingerprint}; the task has {vocabularies.title(vocabulary)}, "
            f"fingerprint {fingerprint}. Name another CACHE_DIR, restore that vocabulary, or "
            "delete the folder to tokenise anew"
        )


def _check_files(folder: Path, found: manifest.Manifest, task: seqio.Task) -> None:
    """Checks that the files are those that were read, if they are still within reach."""
    if found.files is None or not hasattr(task.source, "files"):
        return
    try:
        now = {path: rest for path, *rest in task.source.files(found.split)}
    except (UserError, MachineError):
        return  # the cache holds all that is needed
    then = {path: rest for path, *rest in found.files}
    changed = sorted(path for path in now.keys() | then.keys() if now.get(path) != then.get(path))
    if changed:
        more = f" and {len(changed) - 3} more" if changed[3:] else ""
        raise UserError(
            f"task '{task.name}', split '{found.split}': {', '.join(changed[:3])}{more} changed, "
            f"came or went since the text was tokenised into {folder}; delete that folder to "
            "tokenise anew, or restore the files"
        )


def _print_summary(task: seqio.Task, split: str, opened: Cache) -> None:
    found = opened.manifest
    print(
        f"{task.name} {split}: {found.documents:,} {found.unit}, {found.tokens:,} tokens, "
        f"{found.text_bytes:,} bytes of text, {len(found.shards)} shards, vocabulary "
        f"{found.vocabulary_fingerprint}, in {opened.folder}"
    )
