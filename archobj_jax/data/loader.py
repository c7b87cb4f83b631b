"""Batches of a task or mixture, addressed by step.

A global batch is a pure function of the configuration and its step. Row r of step s is row
`s * batch_size + r` of one endless sequence; within a task, row i of that sequence is row i of
the shuffled epochs, and its randomness is `rng_for(seed, i)`. Nothing depends on where a run
started, nor on the number of hosts, threads or worker processes.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import grain
import numpy as np
import seqio

from archobj_jax.data import cache, registry, vocabularies
from archobj_jax.data.batches import Batches, EvalBatches, LocalRows, RowMaker, iterate
from archobj_jax.data.rows import Rows, TokenStream
from archobj_jax.errors import UserError
from archobj_jax.objectives import Layout, Objective


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
      workers: processes that make batches; 0 for threads of this one.
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
    cache_workers: int | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"BATCH_SIZE is {self.batch_size}; expected at least 1 row")


@dataclass(frozen=True)
class _Component:
    """One task of a mixture with its cache and its share."""

    task: seqio.Task
    rate: float
    opened: cache.Cache
    objective: Objective = field(repr=False)

    def rows(self, config: DatasetConfig, layout: Layout, *, endless: bool) -> grain.MapDataset:
        """Returns the rows as model arrays: of all epochs one after the other, or of one."""
        # Tasks of a mixture must not shuffle alike, so each draws from a seed of its own.
        seed = _seed(config.seed, self.task.name)
        eos_id = self.opened.ids.eos_id if self.objective.document_ends else None
        stream = TokenStream(self.opened, eos_id)
        window = self.objective.window(config.task_feature_lengths)
        try:
            rows = Rows(stream, window, _seed(seed, "offset") if config.shuffle else None)
        except UserError as error:
            raise UserError(f"task '{self.task.name}', split '{config.split}': {error}") from error
        order = grain.MapDataset.range(len(rows))
        if config.shuffle:
            order = order.shuffle(seed=seed % 2**32)
        if endless:
            order = order.repeat()
        lengths = dict(config.task_feature_lengths)
        return order.map_with_index(
            RowMaker(rows, self.objective, layout, lengths, self.opened.ids, seed)
        )


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
        vocabulary's cache.
      MachineError: a damaged shard; while iterating, a damaged record.
    """
    components = _components(config, layout)
    parts = [component.rows(config, layout, endless=True) for component in components]
    if len(parts) == 1:
        rows = parts[0]
    else:
        rows = grain.MapDataset.mix(parts, [component.rate for component in components])
    batches = _batched(rows, config, layout, local_rows)
    return iterate(batches[start_step:], config.workers)


def eval_batches(
    config: DatasetConfig,
    layout: Layout,
    *,
    local_rows: np.ndarray | None = None,
    num_batches: int | None = None,
) -> dict[str, EvalBatches]:
    """Returns, for each task that has the split, the batches of one pass in order.

    Rows are never shuffled and their randomness is fixed, whatever `config.shuffle` says. Rows of
    zeros (no loss weight) fill the last batch.

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
    for component in _components(config, layout):
        rows = component.rows(config, layout, endless=False)
        batches = _batched(rows, config, layout, local_rows)
        found[component.task.name] = EvalBatches(batches[:num_batches])
    return found


@dataclass(frozen=True)
class Description:
    """What a run needs to know of its data before it takes a batch.

    Attributes:
      objectives: the paper's abbreviations of the tasks' objectives, without repeats.
      vocab_size: the largest vocabulary of the tasks.
      fingerprint: 16 hex digits that change with anything that a global batch depends on.
    """

    objectives: tuple[str, ...]
    vocab_size: int
    fingerprint: str


def describe(config: DatasetConfig, layout: Layout) -> Description:
    """Describes the data; caches what is not cached yet.

    Raises:
      UserError: as `train_batches`.
      MachineError: as `train_batches`.
    """
    components = _components(config, layout)
    return Description(
        objectives=tuple(dict.fromkeys(c.objective.symbol for c in components)),
        vocab_size=max(c.opened.ids.vocab_size for c in components),
        fingerprint=_fingerprint(config, layout, components),
    )


def check_names(config: DatasetConfig) -> None:
    """Checks that the task or mixture and its split exist and have objectives; reads no text.

    Raises:
      UserError: they do not.
    """
    provider = registry.find(config.mixture_or_task_name, config.module)
    for task in registry.tasks(provider, config.split):
        registry.objective(task)


def _fingerprint(config: DatasetConfig, layout: Layout, components: Sequence[_Component]) -> str:
    parts = [
        [c.task.name, c.rate, c.opened.manifest.fingerprint, repr(c.objective)] for c in components
    ]
    lengths = sorted(config.task_feature_lengths.items())
    text = json.dumps(
        [parts, repr(layout), lengths, config.batch_size, config.shuffle, config.seed]
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _components(config: DatasetConfig, layout: Layout) -> list[_Component]:
    """Looks the tasks up, checks that they suit lengths and layout, caches what is not cached."""
    provider = registry.find(config.mixture_or_task_name, config.module)
    rates = registry.tasks(provider, config.split)
    objectives = {task: registry.objective(task) for task in rates}
    for task in rates:  # all of them, before any hour is spent on caching one
        ids = vocabularies.load(registry.vocabulary(task), config.cache_dir)
        objectives[task].check(config.task_feature_lengths, ids)
        layout.check(objectives[task].features, config.task_feature_lengths)
    return [
        _Component(task, rate, _cache(task, config), objectives[task])
        for task, rate in rates.items()
    ]


def _cache(task: seqio.Task, config: DatasetConfig) -> cache.Cache:
    return cache.ensure(
        task, config.split, config.cache_dir, module=config.module, workers=config.cache_workers
    )


def _batched(
    rows: grain.MapDataset, config: DatasetConfig, layout: Layout, local_rows: np.ndarray | None
) -> grain.MapDataset:
    """Returns a dataset whose element s is this process's part of global batch s."""
    local = np.arange(config.batch_size) if local_rows is None else np.asarray(local_rows)
    if not local.size or local.min() < 0 or local.max() >= config.batch_size:
        raise ValueError(f"local_rows are {local}; expected rows of 0..{config.batch_size - 1}")
    spec = layout.spec(config.task_feature_lengths)
    filler = {name: np.zeros(shape, dtype) for name, (shape, dtype) in spec.items()}
    return LocalRows(rows, config.batch_size, local, filler).batch(len(local))


def _seed(seed: int, name: str) -> int:
    """Returns a seed of 63 bits for `name` under `seed`."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
