"""Making the shards of caches on Apache Beam (extra `beam`), where one machine would take days.

An element of the pipeline is a shard to make, and a worker makes it by the function that makes it
without Beam, `shards.build`: it reads the shard's share of the source itself, so no document goes
through the pipeline, and the files are the same, byte for byte. They appear whole, the note that
the shard is finished last, and whoever makes them again makes the same: bundles may be retried,
and a pipeline that was cut off goes on where it was.
"""

import contextlib
import dataclasses
import json
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import apache_beam as beam
import seqio
import tensorflow as tf

from archobj_jax.data import building, manifest, registry, shards, vocabularies
from archobj_jax.data.beam_options import new_pipeline
from archobj_jax.data.progress import Progress
from archobj_jax.data.publishing import publish
from archobj_jax.errors import MachineError, UserError

_SECONDS_BETWEEN_LOOKS = 10.0
_FAILURE = ".failure"

_loading = threading.Lock()


def build(jobs: Sequence[shards.Job], pipeline_options: str) -> None:
    """Makes the shards that are not finished yet; `archobj cache` then has only to write manifests.

    A bad record ends its shard only; it is told when the others are made.

    Args:
      jobs: shards of any number of tasks and splits. Their folder must be one that all workers
        write to: on this machine, mounted, or in a bucket.
      pipeline_options: Beam's own, separated by commas, as `seqio_cache_tasks` has them.

    Raises:
      UserError: options that Beam does not know or that do not go together, a record of a source
        that is not what it must be, or workers that are not like this machine.
      MachineError: a shard could not be written, or the pipeline ended too early.
    """
    pipeline = new_pipeline(pipeline_options, folders=[job.folder for job in jobs])
    missing = [job for job in jobs if not shards.finished(job)]
    if not missing:
        return
    for folder in _folders(missing):
        building.remove_left(folder)
        for left in folder.glob(f"*{_FAILURE}"):
            left.unlink()
    _ = (
        pipeline
        | "Shards" >> beam.Create(missing)
        | "Spread" >> beam.Reshuffle()  # else one worker gets them all
        | "Make" >> beam.ParDo(MakeShard())
    )
    with _watched(missing, len(jobs)) as waiting:
        try:
            state = pipeline.run().wait_until_finish()
        except Exception:
            _raise_failures(missing)
            raise  # by Beam, or a defect
    _raise_failures(missing)
    if waiting:
        raise MachineError(
            f"the Beam pipeline ended ({state}), and {len(waiting):,} of {len(jobs):,} shards are "
            f"not there, such as {min(job.path for job in waiting)}; expected a CACHE_DIR that all "
            "workers write to. Finished shards are kept: run the same command again"
        )


class MakeShard(beam.DoFn):
    """Makes the shard of a job in a folder of the worker, then publishes its files.

    What the user can mend is left beside the shards for `build` to tell, as trying again would not
    help; anything else is raised, and Beam tries again.
    """

    def __init__(self) -> None:
        self._shards, self._documents, self._tokens = (
            beam.metrics.Metrics.counter("archobj cache", name)
            for name in ("shards", "documents", "tokens")
        )

    def process(self, element: shards.Job) -> None:
        """Makes one shard, unless another attempt has made it."""
        if shards.finished(element):
            return
        try:
            shard = _make(element)
        except UserError as error:
            _leave_failure(element, error)
            return
        except MachineError as error:
            with contextlib.suppress(OSError, tf.errors.OpError):  # on a full disk Beam tells it
                _leave_failure(element, error)
            raise
        _failure(element).unlink(missing_ok=True)  # of an attempt that found the disk full
        self._shards.inc()
        self._documents.inc(shard.documents)
        self._tokens.inc(shard.tokens)


def _make(job: shards.Job) -> manifest.Shard:
    cache_dir = building.vocabulary_folder(job.cache_dir)
    task = registry.find(job.task, job.modules)
    with _loading:  # a worker has several threads, and only one may train a vocabulary
        vocabularies.load(registry.vocabulary(task), cache_dir)
    _check_worker(task, job)
    with tempfile.TemporaryDirectory(prefix="archobj-") as here:
        local = dataclasses.replace(job, folder=Path(here), cache_dir=cache_dir)
        shard = shards.build(local)
        try:
            for name in (*shard.sums, local.note.name):
                publish(Path(here) / name, job.folder)
        except (OSError, tf.errors.OpError) as error:
            raise MachineError(
                f"shard {job.path} cannot be written ({error}); shards finished before are kept: "
                "free space or name another CACHE_DIR, then run the same command again"
            ) from error
    return shard


def _check_worker(task: seqio.Task, job: shards.Job) -> None:
    """Checks that this worker makes of the task what the machine that asked for it would."""
    split, root = job.split, job.folder.parent.parent
    advice = (
        "the workers need the same Python, packages, task modules, environment variables and files "
        "as the machine that starts the pipeline (docs/caching.md)"
    )
    found = building.folder(task, split, root)
    if found != job.folder:
        raise UserError(
            f"task '{job.task}' is another one on a Beam worker: its cache is {found.parent.name}, "
            f"expected {job.folder.parent.name}; {advice}"
        )
    fingerprint = vocabularies.fingerprint(registry.vocabulary(task))
    if fingerprint != job.vocabulary_fingerprint:
        raise UserError(
            f"the vocabulary of task '{job.task}' is another one on a Beam worker: fingerprint "
            f"{fingerprint}, expected {job.vocabulary_fingerprint}; {advice}"
        )
    count = building.shard_count(task, split)
    if count != job.count:
        raise UserError(
            f"the source of task '{job.task}', split '{split}', is another one on a Beam worker: "
            f"{count} shards, expected {job.count}; {advice}"
        )


def _folders(jobs: Iterable[shards.Job]) -> list[Path]:
    return sorted({job.folder for job in jobs})


def _failure(job: shards.Job) -> Path:
    return job.note.with_suffix(_FAILURE)


def _leave_failure(job: shards.Job, error: UserError | MachineError) -> None:
    """Writes down what went wrong: from a worker elsewhere, files are all that comes back."""
    content = {"mendable": isinstance(error, UserError), "message": str(error)}
    with tempfile.TemporaryDirectory(prefix="archobj-") as here:
        file = Path(here) / _failure(job).name
        file.write_text(json.dumps(content))
        publish(file, job.folder)


def _raise_failures(jobs: Sequence[shards.Job]) -> None:
    """Raises the first error that workers left behind, what the user can mend before others."""
    failed = []
    for folder in _folders(jobs):
        for path in sorted(folder.glob(f"*{_FAILURE}")):
            failed.append(json.loads(path.read_text()))
            path.unlink()
    if not failed:
        return
    first = min(failed, key=lambda failure: not failure["mendable"])
    more = f" ({len(failed) - 1} more shards failed)" if failed[1:] else ""
    raise (UserError if first["mendable"] else MachineError)(first["message"] + more)


@contextlib.contextmanager
def _watched(jobs: Sequence[shards.Job], total: int) -> Iterator[set[shards.Job]]:
    """Shows, wherever the pipeline runs, which of `jobs` are finished; yields those that are not.

    The set is up to date when the context is left.
    """
    waiting = set(jobs)
    stop = threading.Event()
    with Progress("caching on Beam", total, total - len(jobs)) as progress:

        def look() -> None:
            there = {str(path) for folder in _folders(waiting) for path in folder.iterdir()}
            for job in [job for job in waiting if str(job.note) in there]:
                shard = shards.finished(job)
                if shard:
                    waiting.discard(job)
                    progress.advance(shard.documents, shard.tokens)
                    progress.finish()

        def watch() -> None:
            while not stop.wait(_SECONDS_BETWEEN_LOOKS):
                with contextlib.suppress(OSError, tf.errors.OpError):  # it is looked at again
                    look()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield waiting
        finally:
            stop.set()
            thread.join()
            look()
