"""Batches of a task or mixture, addressed by step.

A global batch is a pure function of the configuration and its step. Row r of step s is row
`s * batch_size + r` of one endless sequence, mixed of the data's `parts`. Nothing depends on where
a run started, nor on the number of hosts, threads or worker processes.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grain
import numpy as np

from archobj_jax.data import info, registry, vocabularies
from archobj_jax.data.batches import Ahead, Batches, EvalBatches, LocalBatches, iterate
from archobj_jax.data.block_rows import Taken
from archobj_jax.data.parts import Component, PackedPart, WindowPart, components, parts
from archobj_jax.errors import UserError
from archobj_jax.objectives import Layout


@dataclass(frozen=True)
class DatasetConfig:
    """Which data, under T5X's names.

    Attributes:
      mixture_or_task_name: a registered SeqIO task or mixture.
      task_feature_lengths: tokens a row has of each feature, e.g. {"inputs": 512, "targets": 114}.
      split: which split.
      batch_size: rows of a global batch.
      shuffle: whether to shuffle rows anew in each epoch (training).
      seed: draws the order and every objective's randomness.
      module: module, or modules, to import first, which register tasks.
      cache_dir: folder of the token caches.
      workers: processes that make batches; 0 for threads of this one, which keep up with any one
        step on a few accelerators (`python -m benchmarks.input_pipeline` says what a core makes).
      threads: threads that read and make batches, in each of those processes. More of them help
        where the cache lies on an object store, whose answers take long to come.
      prefetch: batches that are made ahead, so that no single slow read holds up a step.
      cache_workers: processes that tokenise what is not cached yet; None to decide by its size.
    """

    mixture_or_task_name: str
    task_feature_lengths: Mapping[str, int]
    split: str
    batch_size: int
    shuffle: bool = True
    seed: int = 0
    module: str | Sequence[str] | None = None
    cache_dir: str = vocabularies.DEFAULT_CACHE_DIR
    workers: int = 0
    threads: int = 2
    prefetch: int = 8
    cache_workers: int | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"BATCH_SIZE is {self.batch_size}; expected at least 1 row")
        for name, least in (("workers", 0), ("threads", 1), ("prefetch", 1)):
            if (value := getattr(self, name)) < least:
                raise UserError(f"DatasetConfig.{name} is {value}; expected at least {least}")


def train_batches(
    config: DatasetConfig,
    layout: Layout,
    *,
    start_step: int,
    local_rows: np.ndarray | None = None,
) -> Batches:
    """Returns the endless batches from `start_step` on.

    Args:
      config: which data.
      layout: makes the model's arrays; names, shapes and dtypes are `layout.spec`'s.
      start_step: step of the first batch.
      local_rows: int [local rows], which rows of the global batch this process needs, in the
        order wanted; all of them by default.

    Returns:
      Batches of arrays [local rows, …].

    Raises:
      UserError: an unknown task, unusable lengths, a corpus shorter than a row, another
        vocabulary's cache, a mixture of several vocabularies.
      MachineError: a damaged shard; while iterating, a damaged record.
    """
    mixed = parts(components(config, layout), config, layout)
    local = _local_rows(config, local_rows)
    shares = min(config.workers, len(local)) or 1
    rates = np.array([part.rate for part in mixed])
    takes = [
        Taken(config.batch_size * part, -(-len(local) // shares) * part)
        for part in (rates / rates.sum()).tolist()
    ]
    sources = [part.rows(taken) for part, taken in zip(mixed, takes, strict=True)]
    rows = sources[0] if len(sources) == 1 else grain.MapDataset.mix(sources, rates.tolist())
    batches = _batched(rows, config, layout, local, shares)
    ahead = Ahead(config.prefetch, config.threads, config.workers)
    return iterate(batches[start_step * shares :], ahead, shares)


def eval_batches(
    config: DatasetConfig,
    layout: Layout,
    *,
    local_rows: np.ndarray | None = None,
    num_batches: int | None = None,
) -> dict[str, EvalBatches]:
    """Returns, for each task that has the split, the batches of one pass in order.

    Rows are never shuffled and their randomness is fixed, whatever `config.shuffle` says. Examples
    that are given occur once each, packed with others of their task. Rows of zeros (no loss weight)
    fill the last batch.

    Args:
      config: which data.
      layout: as `train_batches` has it.
      local_rows: as `train_batches` has it.
      num_batches: at most so many batches of each task.

    Raises:
      UserError: as `train_batches`.
      MachineError: as `train_batches`.
    """
    config = dataclasses.replace(config, shuffle=False)
    found = {}
    for component in components(config, layout):
        (part,) = parts([component], config, layout)
        batches = _batched(part.rows(), config, layout, _local_rows(config, local_rows))
        found[component.task.name] = EvalBatches(batches[:num_batches])
    return found


@dataclass(frozen=True)
class Description:
    """What a run needs to know of its data before it takes a batch.

    Attributes:
      objectives: the paper's abbreviations of the tasks' objectives, without repeats.
      vocab_size: of the tasks' one vocabulary.
      fingerprint: 16 hex digits that change with anything that a global batch depends on.
      info: a table of the tasks, and what packing made of them; lines of text.
    """

    objectives: tuple[str, ...]
    vocab_size: int
    fingerprint: str
    info: str


def describe(config: DatasetConfig, layout: Layout) -> Description:
    """Describes the data; caches what is not cached yet, and packs what is not packed.

    Raises:
      UserError: as `train_batches`.
      MachineError: as `train_batches`.
    """
    tasks = components(config, layout)
    mixed = parts(tasks, config, layout)
    plans = [part.plan() for part in mixed if isinstance(part, PackedPart)]
    orders = [part.order for part in mixed if isinstance(part, WindowPart) and part.order]
    first = tasks[0].opened
    return Description(
        objectives=tuple(dict.fromkeys(task.objective.symbol for task in tasks)),
        vocab_size=first.ids.vocab_size,
        fingerprint=_fingerprint(config, layout, tasks, [*(p.fingerprint for p in plans), *orders]),
        info=info.table(config, tasks, [plan.statistics for plan in plans], layout),
    )


def vocabulary(config: DatasetConfig) -> dict[str, Any]:
    """Returns the record of the tasks' vocabulary; makes or fetches it if need be.

    Raises:
      UserError: an unknown name or split, or a vocabulary that cannot be read.
      MachineError: it cannot be fetched now.
    """
    provider = registry.find(config.mixture_or_task_name, config.module)
    first = registry.vocabulary(next(iter(registry.tasks(provider, config.split))))
    vocabularies.load(first, config.cache_dir)
    return vocabularies.record(first)


def check_names(config: DatasetConfig) -> None:
    """Checks that the task or mixture and its split exist and have objectives; reads no text.

    Raises:
      UserError: they do not.
    """
    provider = registry.find(config.mixture_or_task_name, config.module)
    for task in registry.tasks(provider, config.split):
        registry.objective(task)


def _fingerprint(
    config: DatasetConfig, layout: Layout, tasks: Sequence[Component], orders: Sequence[str]
) -> str:
    made_of = [
        [c.task.name, c.rate, c.opened.manifest.fingerprint, repr(c.objective)] for c in tasks
    ]
    lengths = sorted(config.task_feature_lengths.items())
    rest = [config.batch_size, config.shuffle, config.seed, *orders]
    text = json.dumps([made_of, repr(layout), lengths, *rest])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _local_rows(config: DatasetConfig, local_rows: np.ndarray | None) -> np.ndarray:
    local = np.arange(config.batch_size) if local_rows is None else np.asarray(local_rows)
    if not local.size or local.min() < 0 or local.max() >= config.batch_size:
        raise ValueError(f"local_rows are {local}; expected rows of 0..{config.batch_size - 1}")
    return local


def _batched(
    rows: grain.MapDataset,
    config: DatasetConfig,
    layout: Layout,
    local_rows: np.ndarray,
    shares: int = 1,
) -> grain.MapDataset:
    """Returns a dataset of this process's parts of the global batches, each in so many shares."""
    spec = layout.spec(config.task_feature_lengths)
    filler = {name: np.zeros(shape, dtype) for name, (shape, dtype) in spec.items()}
    return LocalBatches(rows, config.batch_size, local_rows, filler, shares)
