"""The token cache: a task's documents, tokenised once, on disk in ArrayRecord shards.

    <cache_dir>/<source>-<8 hex of its declaration>/<split>/
        manifest.json                          counts, declaration, vocabulary, checksums
        shard-00000-of-00008.array_record      records of tokenised documents (`records`)
        shard-00000-of-00008.index.npy         tokens and documents before each record
        shard-00000-of-00008.lengths.npy       tokens of each example, where documents are such
        shard-00000-of-00008.json              says that the shard is finished

Tasks that differ only in what comes after the cache, the objective, share it.
"""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import seqio
import tensorflow as tf
from etils import epath

from archobj_jax import native_messages
from archobj_jax.data import building, locking, manifest, registry, vocabularies
from archobj_jax.data.publishing import is_bucket
from archobj_jax.data.token_ids import TokenIds
from archobj_jax.errors import MachineError, UserError


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
    pipeline_options: str | None = None,
) -> None:
    """Tokenises a task, or every task of a mixture, and prints what is in the cache.

    What is there already is kept, after its checksums were verified (not those in a bucket).

    Args:
      mixture_or_task_name: a registered name.
      module: module, or modules, that register tasks.
      cache_dir: folder of all caches; with `pipeline_options` it may lie in a bucket.
      splits: which splits; all of each task by default.
      workers: processes that tokenise; 0 for this one alone, by default as many as there are
        cores if the source is large. Beam has workers of its own.
      pipeline_options: if given, Apache Beam makes the shards, with these options of its own,
        separated by commas: `--runner=DirectRunner,--direct_num_workers=4`.

    Raises:
      UserError: an unknown name or split, an empty or unreadable source, a cache that was made
        with another vocabulary, or options that Beam does not take.
      MachineError: a damaged shard, or a disk that cannot be written.
    """
    provider = registry.find(mixture_or_task_name, module)
    wanted = [
        (task, split)
        for split in (provider.splits if splits is None else splits)
        for task in registry.tasks(provider, split)
    ]
    root = root_of(cache_dir, bucket=pipeline_options is not None)
    if pipeline_options is not None:
        _build_on_beam(wanted, root, module, pipeline_options)
    for task, split in wanted:
        opened = _ensure(task, split, root, module, workers)
        if not is_bucket(root):
            manifest.check_sums(opened.folder, opened.manifest)
        _print_summary(task, split, opened)


def ensure(
    task: seqio.Task,
    split: str,
    cache_dir: str | os.PathLike[str],
    *,
    module: registry.Modules = None,
    workers: int | None = None,
) -> Cache:
    """Returns the cache of a split, made now as far as it is not there.

    Args:
      task: the task.
      split: one of its splits.
      cache_dir: folder of all caches, on a local or mounted disk.
      module: modules that a worker process must import to find the task.
      workers: as `cache` has it.

    Raises:
      UserError: as `cache`.
      MachineError: as `cache`.
    """
    opened = _ensure(task, split, root_of(cache_dir), module, workers)
    manifest.check_sizes(opened.folder, opened.manifest)
    return opened


def _ensure(
    task: seqio.Task, split: str, root: Path, module: registry.Modules, workers: int | None
) -> Cache:
    vocabulary = registry.vocabulary(task)
    ids = vocabularies.load(vocabulary, building.vocabulary_folder(root))
    folder = building.folder(task, split, root)
    found = _read(folder)
    if found is None:
        with locking.locked(folder):
            found = _read(folder) or building.build(task, split, root, module, workers)
    _check_made_with(folder, found, vocabulary)
    _check_files(folder, found, task)
    return Cache(folder, found, ids)


def _read(folder: Path) -> manifest.Manifest | None:
    try:
        found = manifest.read(folder)
    except FileNotFoundError:
        return None
    return found if manifest.is_whole(folder, found) else None


def _build_on_beam(
    wanted: Sequence[tuple[seqio.Task, str]], root: Path, module: registry.Modules, options: str
) -> None:
    """Makes the shards of all that is not cached yet by one pipeline; the manifests come after."""
    try:
        with native_messages.held_back():
            import apache_beam  # noqa: F401
    except ImportError as error:
        raise UserError(
            "--pipeline_options is for Apache Beam, which is an extra: pip install "
            "'archobj_jax[beam]'; without that option, processes of this machine make the cache"
        ) from error
    from archobj_jax.data import beam_cache, beam_options

    folders = {building.folder(task, split, root): (task, split) for task, split in wanted}
    beam_options.new_pipeline(options, list(folders))  # mistakes are told before anything is made
    with contextlib.ExitStack() as locks:
        jobs = []
        for folder in sorted(folders):
            locks.enter_context(locking.locked(folder))
            _check_writable(folder)
            if _read(folder) is None:
                task, split = folders[folder]
                vocabularies.load(registry.vocabulary(task), building.vocabulary_folder(root))
                jobs += building.jobs(task, split, root, module)
        beam_cache.build(jobs, options)


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, tf.errors.OpError) as error:  # of a folder, of a bucket
        raise MachineError(
            f"{folder} cannot be written ({error}); name another CACHE_DIR, or check that this "
            "machine may write there, then run the same command again"
        ) from error


def root_of(cache_dir: str | os.PathLike[str], *, bucket: bool = False) -> Path:
    """Returns the absolute folder of all caches; raises UserError if that is a bucket.

    Args:
      cache_dir: the folder (gin: CACHE_DIR).
      bucket: whether it may be one, as it is only written to.
    """
    if not is_bucket(cache_dir):
        return Path(cache_dir).absolute()
    if bucket:
        return epath.Path(cache_dir)
    raise UserError(
        f"CACHE_DIR is '{cache_dir}'; expected a folder of this machine, as ArrayRecord reads "
        "files at random: mount the bucket (gcsfuse) and name the mounted folder. Only Apache Beam "
        "(--pipeline_options) writes into a bucket"
    )


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
