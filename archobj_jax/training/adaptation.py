"""Starting a run from another run's checkpoint: another objective, mask, stack or size.

Two phases, parameters and then optimizer state, both declared by rules (`parameter_rules`) and
checked on shapes alone; then what is needed is read from storage, in the source's shapes, into the
shardings of this mesh, and made into the train state by one jitted function.
"""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils

from archobj_jax.architectures.parameters import insert, lookup
from archobj_jax.errors import UserError
from archobj_jax.partitioning.rules import activated
from archobj_jax.shapes import Array
from archobj_jax.training import restoring
from archobj_jax.training.adaptation_checks import check_slots, checked_origins
from archobj_jax.training.lineage import Stage, check_same_vocabulary, recorded_model, stages_of
from archobj_jax.training.parameter_rules import Origin, Rule, fits, named
from archobj_jax.training.state import Blueprint, PyTree, TrainState, flatten, path_name
from archobj_jax.training.trainer import Trainer


@dataclasses.dataclass(frozen=True)
class InitialCheckpoint:
    """Which checkpoint a run starts from, and what of it goes on (gin: INITIAL_CHECKPOINT_PATH).

    Attributes:
      path: of a run (its newest checkpoint) or of a checkpoint.
      rules: where parameters come from when the two models are not alike: names in
        `parameter_rules.NAMED_RULES`, or `Rule`s.
      step: "continue" goes on counting from the checkpoint's step (T5X's way, and the study's),
        "zero" counts anew.
      optimizer_state: "keep" takes the optimizer's statistics, adjusted as their parameters are;
        those of parameters that are initialised anew start at zero. "fresh" starts all anew.
      schedule: the learning rate is that of the "global" step, or the schedule is run through from
        its beginning ("restart").
    """

    path: str
    rules: str | Sequence[str | Rule] = ()
    step: str = "continue"
    optimizer_state: str = "keep"
    schedule: str = "global"

    def __post_init__(self) -> None:
        choices = {
            "step": ("continue", "zero"),
            "optimizer_state": ("keep", "fresh"),
            "schedule": ("global", "restart"),
        }
        for field, allowed in choices.items():
            if getattr(self, field) not in allowed:
                raise UserError(
                    f"InitialCheckpoint.{field} = {getattr(self, field)!r}: must be one of "
                    f"{', '.join(allowed)}."
                )
        named(self.rules)
        if isinstance(self.rules, str):
            object.__setattr__(self, "rules", (self.rules,))


@dataclasses.dataclass(frozen=True)
class Adaptation:
    """A checkpoint, checked, that a train state is to be made from.

    Attributes:
      config: what was asked for.
      path: of the checkpoint.
      ancestors: its lineage, oldest first.
      source: blueprint of its model, on this run's mesh.
      blueprint: of the model to train.
      trainer: whose optimizer the state is for.
      origins: of each parameter, by name.
      slots: of each array of the optimizer state that is kept, by name.
    """

    config: InitialCheckpoint
    path: epath.Path
    ancestors: tuple[Stage, ...]
    source: Blueprint
    blueprint: Blueprint
    trainer: Trainer
    origins: Mapping[str, Origin]
    slots: Mapping[str, Origin]

    @classmethod
    def of(
        cls,
        config: InitialCheckpoint,
        blueprint: Blueprint,
        trainer: Trainer,
        *,
        vocabulary: Mapping[str, str] | None = None,
    ) -> "Adaptation":
        """Finds the checkpoint and checks that the rules make this model of it; reads no array.

        Args:
          config: which checkpoint, and how.
          blueprint: of the model to train.
          trainer: whose optimizer the state is for.
          vocabulary: "title" and "fingerprint" of the vocabulary of the data; None to leave it
            unchecked.

        Raises:
          UserError: there is no checkpoint, its vocabulary is another and no rule says that ids
            were added, its network computes something else, or parameters or kept optimizer state
            are not covered: lists them with the shapes on both sides, and rules that would help.
          MachineError: it is damaged or cannot be read now.
        """
        path = _found(config.path)
        about = restoring.read_about(path)
        source = Blueprint.of(recorded_model(about["model"], where=str(path)), blueprint.rules)
        if vocabulary is not None and "larger_vocabulary" not in config.rules:
            check_same_vocabulary(
                about,
                vocabulary,
                where=f"INITIAL_CHECKPOINT_PATH: {path}",
                advice="Name a task with that vocabulary; or, if the ids there are the first of "
                "those here, add 'larger_vocabulary' to INITIAL_CHECKPOINT_RULES.",
            )
        found = checked_origins(path, blueprint, source, config.rules)
        slots: dict[str, Origin] = {}
        if config.optimizer_state == "keep":
            check_slots(path, _slots(source, trainer), about["arrays"])
            slots = _slot_origins(blueprint, source, trainer, found)
        stages = stages_of(about, where=str(path))
        return cls(config, path, stages, source, blueprint, trainer, found, slots)

    @property
    def start_step(self) -> int:
        """The global step from which the run counts."""
        return self.ancestors[-1].step if self.config.step == "continue" else 0

    @property
    def schedule_start(self) -> int:
        """The global step at which the learning-rate schedule begins."""
        return self.start_step if self.config.schedule == "restart" else 0

    def check_steps(self, total_steps: int) -> None:
        """Raises UserError unless there are steps left."""
        if self.start_step >= total_steps:
            raise UserError(
                f"TRAIN_STEPS = {total_steps:,} is the last step, and {self.path} is at step "
                f"{self.start_step:,} already; expected more, since steps go on counting."
            )

    def summary(self) -> str:
        """What comes from where, in a few lines."""
        asis = [name for name, origin in self.origins.items() if origin == Origin(name)]
        anew = [name for name, origin in self.origins.items() if origin.source is None]
        others = {name: self.origins[name] for name in self.origins.keys() - {*asis, *anew}}
        choices = {
            "continue": "goes on",
            "zero": "is zero",
            "keep": "kept",
            "fresh": "fresh",
            "global": "of the global step",
            "restart": "from its beginning",
        }
        lines = [
            f"Starting from {self.path}: step {choices[self.config.step]}, optimizer state "
            f"{choices[self.config.optimizer_state]}, schedule {choices[self.config.schedule]}."
        ]
        lines += [f"  {len(asis)} parameters as they are"] if asis else []
        lines += [f"  {len(anew)} parameters initialised anew: {', '.join(anew)}"] if anew else []
        for name, origin in sorted(others.items()):
            how = f" ({', '.join(origin.adjustments)})" if origin.adjustments else ""
            lines.append(f"  {name} from {origin.source}{how}")
        return "\n".join(lines)

    def state(self, seed: int) -> TrainState:
        """Reads what is needed and makes the train state of it.

        Args:
          seed: of parameters that are initialised anew.

        Raises:
          MachineError: the checkpoint is damaged or cannot be read now.
        """
        transform = self.trainer.transform(self.blueprint)
        shardings = jax.tree.map(
            lambda leaf: leaf.sharding, self.blueprint.abstract_state(transform)
        )
        read = dict(flatten(restoring.restore(self.path, self._wanted()).state))
        read = {name: array for name, array in read.items() if array is not ocp.PLACEHOLDER}

        def make(read: Mapping[str, Array]) -> TrainState:
            params = self._params(read, seed)

            def slot(path: Sequence[Any], fresh: Array) -> Array:
                return self._slot(read, path, fresh)

            opt_state = jax.tree_util.tree_map_with_path(slot, transform.init(params))
            return TrainState(jnp.asarray(self.start_step, jnp.int32), params, opt_state)

        with activated(self.blueprint.rules), warnings.catch_warnings():
            # What is adjusted has another shape than what was read, and cannot reuse its memory.
            warnings.filterwarnings("ignore", "Some donated buffers were not usable")
            return jax.jit(make, out_shardings=shardings, donate_argnums=0)(read)

    def _wanted(self) -> dict[str, PyTree]:
        """What is read, in the source's shapes and with its shardings here; the rest is not."""
        params = {origin.source for origin in self.origins.values()}
        slots = {origin.source for origin in self.slots.values()}

        def only(names: set[str | None], tree: PyTree) -> PyTree:
            def kept(path: Sequence[Any], leaf: Any) -> Any:
                return leaf if path_name(path) in names else ocp.PLACEHOLDER

            return jax.tree_util.tree_map_with_path(kept, tree)

        state = self.source.abstract_state(self.trainer.transform(self.source))
        wanted = {"params": only(params, state.params)}
        return {**wanted, "opt_state": only(slots, state.opt_state)} if slots else wanted

    def _params(self, read: Mapping[str, Array], seed: int) -> PyTree:
        # What is taken from the checkpoint is not computed here: XLA drops what nothing reads.
        fresh = self.blueprint.fresh_params(seed)
        tree: dict = {}
        for info in self.blueprint.infos:
            origin, value = self.origins[info.name], lookup(fresh, info.path)
            if origin.source is not None:
                value = origin.value(read[f"params/{origin.source}"], value, info)
            insert(tree, info.path, value)
        return tree

    def _slot(self, read: Mapping[str, Array], path: Sequence[Any], fresh: Array) -> Array:
        """An array of the optimizer state; `fresh` if it is not kept."""
        origin, info = self.slots.get(path_name(path)), self.blueprint.parameter_of(path)
        if origin is None:
            return fresh
        source = read[f"opt_state/{origin.source}"]
        if info is None:
            return source
        # New ids begin with the statistics of an average one: from zero, their first updates would
        # be so large that clipping by the RMS of all would stop the others.
        return origin.value(source, jnp.full(fresh.shape, jnp.mean(source), fresh.dtype), info)


def _found(path: str) -> epath.Path:
    """The checkpoint that the first process finds, lest the source run saves another meanwhile."""
    if not path:
        raise UserError("INITIAL_CHECKPOINT_PATH is empty; expected a run or a checkpoint.")
    found = restoring.find_checkpoint(path, binding="INITIAL_CHECKPOINT_PATH")
    if jax.process_count() == 1:
        return found
    step = int(found.name.rpartition("_")[2])
    first = int(multihost_utils.broadcast_one_to_all(np.int32(step)))
    return found.parent / f"{restoring.PREFIX}_{first}"


def _slots(blueprint: Blueprint, trainer: Trainer) -> dict[str, jax.ShapeDtypeStruct]:
    """The arrays of the optimizer state of a model, by name."""
    return dict(flatten(blueprint.abstract_state(trainer.transform(blueprint)).opt_state))


def _slot_origins(
    blueprint: Blueprint, source: Blueprint, trainer: Trainer, params: Mapping[str, Origin]
) -> dict[str, Origin]:
    """The second phase: of each array of the optimizer state that is kept, where it comes from."""
    there = _slots(source, trainer)
    state = blueprint.abstract_state(trainer.transform(blueprint)).opt_state
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        name, info = path_name(path), blueprint.parameter_of(path)
        if info is None:
            if name in there:
                found[name] = Origin(name)
            continue
        origin = params[info.name]
        if origin.source is None:
            continue
        slot = name.removesuffix(info.name) + origin.source
        moved = Origin(slot, origin.adjustments)
        if slot in there and fits(moved, there[slot].shape, leaf.shape, info):
            found[name] = moved
    return found
