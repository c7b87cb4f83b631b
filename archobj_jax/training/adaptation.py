"""Starting a run from another run's checkpoint: another objective, mask, stack or size.

Two phases, parameters and then optimizer state, both declared by rules (`parameter_rules`) and
checked on shapes alone; then what is needed is read from storage, in the source's shapes, into the
shardings of this mesh, and made into the train state by one jitted function.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath
from flax import nnx

from archobj_jax.architectures.parameters import insert, lookup
from archobj_jax.errors import UserError
from archobj_jax.partitioning.rules import activated
from archobj_jax.shapes import Array
from archobj_jax.training import restoring
from archobj_jax.training.lineage import Stage, recorded_model
from archobj_jax.training.parameter_rules import (
    NAMED_RULES,
    Origin,
    Rule,
    Uncovered,
    helpful,
    named,
    origins,
)
from archobj_jax.training.state import Blueprint, PyTree, TrainState, key_name
from archobj_jax.training.trainer import Trainer

_SHOWN = 30
"""Parameters that an error lists."""


@dataclasses.dataclass(frozen=True)
class InitialCheckpoint:
    """Which checkpoint a run starts from, and what of it goes on (gin: INITIAL_CHECKPOINT_PATH).

    Attributes:
      path: of a run (its newest checkpoint) or of a checkpoint.
      rules: where parameters come from when the two models are not alike: names in
        `parameter_rules.NAMED_RULES`, or `Rule`s.
      step: "continue" goes on counting from the checkpoint's step (T5X's way, and the study's),
        "zero" counts anew.
      optimizer_state: "keep" takes the optimizer's statistics, as far as the parameters they
        belong to are taken as they are; "fresh" starts all of them anew.
      schedule: the learning rate is that of the "global" step, or the schedule is run through from
        its beginning ("restart").
    """

    path: str
    rules: Sequence[str | Rule] = ()
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
      slots: for each array of the optimizer state that is kept, the name it has there.
    """

    config: InitialCheckpoint
    path: epath.Path
    ancestors: tuple[Stage, ...]
    source: Blueprint
    blueprint: Blueprint
    trainer: Trainer
    origins: Mapping[str, Origin]
    slots: Mapping[str, str]

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
          UserError: there is no checkpoint, its vocabulary is another, or parameters or kept
            optimizer state are not covered: lists them with the shapes on both sides, and rules
            that would help.
          MachineError: it is damaged or cannot be read now.
        """
        path = restoring.find_checkpoint(config.path, binding="INITIAL_CHECKPOINT_PATH")
        about = restoring.read_about(path)
        source = Blueprint.of(recorded_model(about["model"], where=str(path)), blueprint.rules)
        if vocabulary is not None:
            _check_vocabulary(path, about["model"]["vocabulary"], vocabulary, config.rules)
        found, uncovered = origins(blueprint.infos, source.infos, named(config.rules))
        if uncovered:
            raise _uncovered(path, uncovered, helpful(blueprint.infos, source.infos, config.rules))
        ancestors = tuple(Stage(**stage) for stage in about["lineage"])
        slots = {}
        if config.optimizer_state == "keep":
            slots = _slot_origins(blueprint, trainer, found)
            _check_slots(path, source, trainer, slots.values(), about["arrays"])
        return cls(config, path, ancestors, source, blueprint, trainer, found, slots)

    @property
    def start_step(self) -> int:
        """The global step from which the run counts."""
        return self.ancestors[-1].step if self.config.step == "continue" else 0

    @property
    def schedule_start(self) -> int:
        """The global step at which the learning-rate schedule begins."""
        return self.start_step if self.config.schedule == "restart" else 0

    def summary(self) -> str:
        """What comes from where, in a few lines."""
        kinds = {
            "as they are": [n for n, o in self.origins.items() if o == Origin(n)],
            "initialised anew": [n for n, o in self.origins.items() if o.source is None],
        }
        other = {n: o for n, o in self.origins.items() if not any(n in k for k in kinds.values())}
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
        lines += [f"  {len(names)} parameters {kind}" for kind, names in kinds.items() if names]
        for name, origin in other.items():
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
        wanted: dict[str, Any] = {"params": self._wanted_params()}
        if self.slots:
            there = _slots_there(self.source, self.trainer)
            wanted["opt_state"] = _nested({name: there[name] for name in self.slots.values()})
        read = restoring.restore(self.path, wanted).state
        shardings = jax.tree.map(
            lambda leaf: leaf.sharding, self.blueprint.abstract_state(transform)
        )

        def make(read: Mapping[str, Any]) -> TrainState:
            params = self._params(read["params"], seed)

            def slot(path: Sequence[Any], fresh: Array) -> Array:
                name = self.slots.get(_name(path))
                return fresh if name is None else lookup(read["opt_state"], name.split("/"))

            opt_state = jax.tree_util.tree_map_with_path(slot, transform.init(params))
            return TrainState(jnp.asarray(self.start_step, jnp.int32), params, opt_state)

        with activated(self.blueprint.rules):
            return jax.jit(make, out_shardings=shardings, donate_argnums=0)(read)

    def _wanted_params(self) -> PyTree:
        """The source's parameters that are read, with their shardings here."""
        needed = {origin.source for origin in self.origins.values()}
        every = self.source.abstract_params()
        tree: dict = {}
        for info in self.source.infos:
            if info.name in needed:
                insert(tree, info.path, lookup(every, info.path))
        return tree

    def _params(self, read: Mapping, seed: int) -> PyTree:
        rngs = nnx.Rngs(params=jax.random.key(seed))
        # What is taken from the checkpoint is not computed here: XLA drops what nothing reads.
        fresh = nnx.to_pure_dict(nnx.state(self.blueprint.architecture.build(rngs), nnx.Param))
        tree: dict = {}
        for info in self.blueprint.infos:
            origin, value = self.origins[info.name], lookup(fresh, info.path)
            if origin.source is not None:
                value = origin.value(lookup(read, origin.source.split("/")), value, info)
            insert(tree, info.path, value)
        return tree


def _name(path: Sequence[Any]) -> str:
    return "/".join(key_name(key) for key in path)


def _nested(leaves: Mapping[str, Any]) -> PyTree:
    tree: dict = {}
    for name, leaf in leaves.items():
        insert(tree, name.split("/"), leaf)
    return tree


def _slot_origins(
    blueprint: Blueprint, trainer: Trainer, found: Mapping[str, Origin]
) -> dict[str, str]:
    """The second phase: each array of the optimizer state that is kept, and its name there."""
    slots = {}
    state = blueprint.abstract_state(trainer.transform(blueprint)).opt_state
    for path, _ in jax.tree_util.tree_leaves_with_path(state):
        name, info = _name(path), blueprint.parameter_of(path)
        if info is None:
            slots[name] = name
        elif (origin := found[info.name]).source and not origin.adjustments:
            slots[name] = name.removesuffix(info.name) + origin.source
    return slots


def _slots_there(source: Blueprint, trainer: Trainer) -> dict[str, jax.ShapeDtypeStruct]:
    """What the optimizer state of the source is, by name, if its optimizer is this run's."""
    state = source.abstract_state(trainer.transform(source)).opt_state
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def _check_slots(
    path: epath.Path,
    source: Blueprint,
    trainer: Trainer,
    names: Iterable[str],
    arrays: Mapping[str, Any],
) -> None:
    there = _slots_there(source, trainer)
    uncovered = []
    for name in names:
        saved = arrays.get(f"opt_state/{name}", [None])[0]
        if saved != list(there[name].shape):
            shape = None if saved is None else tuple(saved)
            uncovered.append(Uncovered(name, there[name].shape, shape))
    if uncovered:
        raise UserError(
            f"INITIAL_CHECKPOINT_PATH: the optimizer state in {path} is of another optimizer; "
            "start a new one with --gin.adaptation.InitialCheckpoint.optimizer_state=fresh. "
            f"{len(uncovered)} arrays differ:\n{_listed(uncovered)}"
        )


def _check_vocabulary(
    path: epath.Path,
    there: Mapping[str, str],
    here: Mapping[str, str],
    rules: Sequence[str | Rule],
) -> None:
    if there["fingerprint"] != here["fingerprint"] and "larger_vocabulary" not in rules:
        raise UserError(
            f"INITIAL_CHECKPOINT_PATH: {path} was trained with the vocabulary {there['title']} "
            f"(fingerprint {there['fingerprint']}), the data has {here['title']} (fingerprint "
            f"{here['fingerprint']}), so token ids would change their meaning. Name a task with "
            "that vocabulary; or, if the ids there are the first of those here, add "
            "'larger_vocabulary' to INITIAL_CHECKPOINT_RULES."
        )


def _uncovered(
    path: epath.Path, uncovered: Sequence[Uncovered], hints: Sequence[Sequence[str]]
) -> UserError:
    advice = f"the rules are {', '.join(NAMED_RULES)}, or Rules of your own"
    if hints:
        choices = " or ".join(f"{', '.join(map(repr, hint))}" for hint in hints)
        advice = f"adding {choices} covers all"
    return UserError(
        f"INITIAL_CHECKPOINT_PATH: {path} holds another model, and no rule of "
        f"INITIAL_CHECKPOINT_RULES covers {len(uncovered)} parameters; {advice}:\n"
        + _listed(uncovered)
    )


def _listed(uncovered: Sequence[Uncovered]) -> str:
    lines = [f"  {one}" for one in uncovered[:_SHOWN]]
    if uncovered[_SHOWN:]:
        lines.append(f"  and {len(uncovered) - _SHOWN} more")
    return "\n".join(lines)
