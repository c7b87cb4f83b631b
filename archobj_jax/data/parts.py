"""The parts of a run's data: rows of one task's windows, or of examples of several packed together.

Within a part, row i of the endless sequence is row i of the shuffled epochs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import grain
import seqio

from archobj_jax.data import block_rows, cache, plan, records, registry, seeds, vocabularies
from archobj_jax.data.batches import PackedRowMaker, RowMaker
from archobj_jax.data.block_rows import BlockRows, Taken
from archobj_jax.data.example_store import ExampleStore
from archobj_jax.data.packing import Member
from archobj_jax.data.rows import Rows, TokenStream
from archobj_jax.errors import UserError
from archobj_jax.objectives import AsGiven, Layout, Objective, WindowObjective

if TYPE_CHECKING:
    from archobj_jax.data.loader import DatasetConfig


@dataclass(frozen=True)
class Component:
    """One task of a mixture with its cache and its share."""

    task: seqio.Task
    rate: float
    opened: cache.Cache
    objective: Objective


class Part(Protocol):
    """What rows are taken from, at a rate of its own."""

    @property
    def rate(self) -> float:
        """The share of rows that come from here."""

    def rows(self, taken: Taken | None = None) -> grain.MapDataset:
        """Returns the rows as model arrays: of all epochs one after the other, or of one.

        Args:
          taken: how many of them batches have, of endless rows; None for one epoch.

        Raises:
          UserError: the data do not fill a row.
        """


@dataclass(frozen=True)
class WindowPart:
    """Windows of one task's token stream."""

    component: Component
    objective: WindowObjective
    config: "DatasetConfig"
    layout: Layout

    @property
    def rate(self) -> float:
        """The task's."""
        return self.component.rate

    @property
    def order(self) -> str | None:
        """What names the order of the rows, if that is in blocks: the corpus is large."""
        # Of tokens alone, so that all objectives over a corpus shuffle it alike.
        large = self.component.opened.manifest.tokens > block_rows.SMALL
        return block_rows.ORDER if self.config.shuffle and large else None

    @property
    def seed(self) -> int:
        """The task's own: tasks of a mixture must not shuffle alike."""
        return seeds.named(self.config.seed, self.component.task.name)

    def windows(self, taken: Taken | None = None) -> Rows | BlockRows:
        """Returns the windows that rows are made of.

        Raises:
          UserError: the corpus is shorter than one.
        """
        task, opened, config = self.component.task, self.component.opened, self.config
        stream = TokenStream(opened, opened.ids.eos_id if self.objective.document_ends else None)
        window = self.objective.window(config.task_feature_lengths)
        if self.order and taken:
            dtype = records.token_dtype(opened.ids.vocab_size)
            return BlockRows(stream, window, seed=self.seed, taken=taken, dtype=dtype)
        try:
            return Rows(
                stream, window, seeds.named(self.seed, "offset") if config.shuffle else None
            )
        except UserError as error:
            raise UserError(f"task '{task.name}', split '{config.split}': {error}") from error

    def rows(self, taken: Taken | None = None) -> grain.MapDataset:
        """Returns the rows; row i's randomness is `rng_for(seed, i)` with a seed of the task's."""
        windows = self.windows(taken)
        shuffled = self.config.shuffle and isinstance(windows, Rows)  # others are already
        order = _order(len(windows), self.seed if shuffled else None, endless=taken is not None)
        lengths = dict(self.config.task_feature_lengths)
        ids = self.component.opened.ids
        return order.map_with_index(
            RowMaker(windows, self.objective, self.layout, lengths, ids, self.seed)
        )


@dataclass(frozen=True)
class PackedPart:
    """Examples of one task or several, packed together; the rate is the sum of theirs."""

    components: tuple[Component, ...]
    objective: AsGiven
    config: "DatasetConfig"
    layout: Layout

    @property
    def rate(self) -> float:
        """The sum of the tasks'."""
        return sum(component.rate for component in self.components)

    def plan(self) -> plan.Plan:
        """Returns which examples share a row, decided now if that was not done before.

        Raises:
          MachineError: a damaged file, or a disk that cannot be written.
        """
        return plan.ensure(
            [Member(c.task.name, c.rate, c.opened) for c in self.components],
            self.objective,
            self.layout,
            self.config.task_feature_lengths,
            seed=self.config.seed,
            cache_dir=cache.root_of(self.config.cache_dir),
        )

    def rows(self, taken: Taken | None = None) -> grain.MapDataset:
        """Returns the rows; nothing but their order is random."""
        planned = self.plan()
        seed = seeds.named(self.config.seed, "packed rows") if self.config.shuffle else None
        store = ExampleStore([component.opened for component in self.components])
        lengths = dict(self.config.task_feature_lengths)
        maker = PackedRowMaker(planned, store, self.objective, self.layout, lengths)
        return _order(len(planned), seed, endless=taken is not None).map(maker)


def components(config: "DatasetConfig", layout: Layout) -> list[Component]:
    """Looks the tasks up, checks that they suit lengths and layout, caches what is not cached.

    Raises:
      UserError: an unknown task or split, unusable lengths, vocabularies that differ, and what
        caching raises.
      MachineError: as caching raises it.
    """
    provider = registry.find(config.mixture_or_task_name, config.module)
    rates = registry.tasks(provider, config.split)
    objectives = {task: registry.objective(task) for task in rates}
    for task in rates:  # all of them, before any hour is spent on caching one
        ids = vocabularies.load(registry.vocabulary(task), config.cache_dir)
        objectives[task].check(config.task_feature_lengths, ids)
        layout.check(objectives[task].features, config.task_feature_lengths)
    _check_one_vocabulary(list(rates))
    return [
        Component(task, rate, _cache(task, config), objectives[task])
        for task, rate in rates.items()
    ]


def parts(
    components: Sequence[Component], config: "DatasetConfig", layout: Layout
) -> list[WindowPart | PackedPart]:
    """Returns the parts, in the order of their first tasks; reads and packs nothing yet."""
    made: list[WindowPart | PackedPart] = []
    packed: set[AsGiven] = set()
    for component in components:
        objective = component.objective
        if isinstance(objective, WindowObjective):
            made.append(WindowPart(component, objective, config, layout))
        elif isinstance(objective, AsGiven):
            if objective not in packed:
                packed.add(objective)
                together = tuple(c for c in components if c.objective == objective)
                made.append(PackedPart(together, objective, config, layout))
        else:
            raise TypeError(f"{objective} is neither a WindowObjective nor AsGiven")
    return made


def _check_one_vocabulary(tasks: Sequence[seqio.Task]) -> None:
    first, *others = tasks
    expected = vocabularies.fingerprint(registry.vocabulary(first))
    for task in others:
        found = vocabularies.fingerprint(registry.vocabulary(task))
        if found != expected:
            raise UserError(
                f"tasks '{first.name}' and '{task.name}' have different vocabularies, "
                f"{vocabularies.title(registry.vocabulary(first))}, fingerprint {expected}, and "
                f"{vocabularies.title(registry.vocabulary(task))}, fingerprint {found}; expected "
                "one for all tasks of a mixture"
            )


def _cache(task: seqio.Task, config: "DatasetConfig") -> cache.Cache:
    return cache.ensure(
        task, config.split, config.cache_dir, module=config.module, workers=config.cache_workers
    )


def _order(count: int, seed: int | None, *, endless: bool) -> grain.MapDataset:
    """Returns the numbers below `count`, shuffled anew each epoch if there is a seed."""
    order = grain.MapDataset.range(count)
    if seed is not None:
        order = order.shuffle(seed=seed % 2**32)
    return order.repeat() if endless else order
