"""Making the cache of one split: a job for each shard, who does them, and then the manifest."""

import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import seqio

from archobj_jax.data import declaration, manifest, registry, shards, vocabularies
from archobj_jax.data.progress import Progress
from archobj_jax.data.publishing import is_bucket, publish
from archobj_jax.errors import MachineError, UserError

_WORTH_PROCESSES = 64 << 20
"""Sources known to hold fewer bytes are tokenised here: starting TensorFlow takes longer."""


def folder(task: seqio.Task, split: str, root: Path) -> Path:
    """Returns where the cache of a split lies in the folder `root` of all caches."""
    return root / declaration.folder(task) / split


def vocabulary_folder(root: Path) -> Path:
    """Returns where a vocabulary that is trained on first use is kept: never in a bucket."""
    return Path(vocabularies.DEFAULT_CACHE_DIR).absolute() if is_bucket(root) else root


def jobs(task: seqio.Task, split: str, root: Path, module: registry.Modules) -> list[shards.Job]:
    """Returns a job for each shard of the source, in order; the vocabulary is loaded by now.

    Raises:
      UserError: the source has no such data.
    """
    count = shard_count(task, split)
    modules = registry.module_names(module)
    fingerprint = vocabularies.fingerprint(registry.vocabulary(task))
    here = folder(task, split, root)
    return [
        shards.Job(task.name, modules, split, index, count, here, root, fingerprint)
        for index in range(count)
    ]


def build(
    task: seqio.Task, split: str, root: Path, module: registry.Modules, workers: int | None
) -> manifest.Manifest:
    """Makes the shards of a split that are not finished yet, then the manifest.

    Args:
      task: the task.
      split: one of its splits.
      root: folder of all caches.
      module: modules that a worker process must import to find the task.
      workers: processes; 0 for this one alone, None to choose.

    Raises:
      UserError: the source is empty, or it or a step is not what it must be.
      MachineError: a shard or the manifest cannot be written.
    """
    here = folder(task, split, root)
    remove_left(here)
    made = _build_shards(jobs(task, split, root, module), task, workers)
    return _complete(task, split, here, made)


def remove_left(folder: Path) -> None:
    """Removes what a run that was killed had half written."""
    for left in folder.glob("*.tmp"):
        left.unlink()


def shard_count(task: seqio.Task, split: str) -> int:
    """Returns how many shards the source of `task` has, each of which becomes one of the cache.

    Raises:
      UserError: TensorFlow Datasets has no such data.
    """
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


def _build_shards(
    jobs: list[shards.Job], task: seqio.Task, workers: int | None
) -> list[manifest.Shard]:
    done = {job: shard for job in jobs if (shard := shards.finished(job))}
    missing = [job for job in jobs if job not in done]
    processes = _processes(task, jobs[0].split, len(jobs), workers) if jobs else 0
    title = f"caching {task.name} {jobs[0].split}" if jobs else "caching"
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


def _complete(
    task: seqio.Task, split: str, folder: Path, made: list[manifest.Shard]
) -> manifest.Manifest:
    """Writes the manifest, which makes of finished shards a cache."""
    vocabulary = registry.vocabulary(task)
    whole = manifest.Manifest(
        task=task.name,
        split=split,
        declaration=declaration.declare(task),
        vocabulary=vocabularies.title(vocabulary),
        vocabulary_fingerprint=vocabularies.fingerprint(vocabulary),
        features=registry.objective(task).document_features,
        shards=tuple(made),
        files=task.source.files(split) if hasattr(task.source, "files") else None,
    )
    _check_not_empty(whole)
    try:
        with tempfile.TemporaryDirectory() as here:
            whole.write(Path(here))
            publish(Path(here) / manifest.FILE, folder)
    except OSError as error:
        raise MachineError(
            f"{folder / manifest.FILE} cannot be written ({error}); free space, "
            "then run the same command again"
        ) from error
    return whole


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
