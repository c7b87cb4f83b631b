"""A training step before it is compiled: what `archobj train` runs and `archobj plan` looks at."""

import dataclasses
from collections.abc import Mapping

import jax

from archobj_jax.architectures.architecture import Architecture
from archobj_jax.data.loader import DatasetConfig
from archobj_jax.partitioning.rules import LogicalAxisRules
from archobj_jax.training import compilation, flops
from archobj_jax.training.placement import Placement
from archobj_jax.training.state import Blueprint, TrainState
from archobj_jax.training.trainer import Trainer
from archobj_jax.training.unsharded import check_sharded


@dataclasses.dataclass(frozen=True)
class PreparedStep:
    """A model, its batch and its train state laid on a mesh, without values.

    Attributes:
      blueprint: the model.
      placement: the batch.
      trainer: what makes the step.
      state: shapes and shardings of the train state.
      batch: shapes and shardings of a batch.
    """

    blueprint: Blueprint
    placement: Placement
    trainer: Trainer
    state: TrainState
    batch: Mapping[str, jax.ShapeDtypeStruct]

    @classmethod
    def of(
        cls,
        model: Architecture,
        dataset: DatasetConfig,
        trainer: Trainer,
        rules: LogicalAxisRules,
    ) -> "PreparedStep":
        """The step of `model` on batches as `dataset` describes them; reads no data.

        Raises:
          UserError: the batch, its lengths or its microbatches do not divide over the mesh, or a
            large array is not sharded.
        """
        blueprint = Blueprint.of(model, rules)
        placement = Placement.of(rules, dataset.batch_size)
        placement.check_microbatches(trainer.num_microbatches)
        batch = placement.abstract(model.layout, dataset.task_feature_lengths)
        state = blueprint.abstract_state(trainer.transform(blueprint))
        check_sharded(blueprint, state)
        return cls(blueprint, placement, trainer, state, batch)

    def lowered(self, seed: int) -> jax.stages.Lowered:
        """The traced step, with its state donated."""
        step = self.trainer.train_step(self.blueprint, seed)
        return compilation.lower_step(step, self.state, self.batch)

    def compiled(self, seed: int, *, schedule_start: int = 0) -> jax.stages.Compiled:
        """The compiled step, with its state donated."""
        step = self.trainer.train_step(self.blueprint, seed, schedule_start=schedule_start)
        return compilation.compile_step(step, self.state, self.batch)

    @property
    def tokens(self) -> int:
        """Positions that a step reads, padding included, the encoder's too."""
        return flops.positions(self.batch)

    def flops(self) -> float:
        """Operations of a step, counted from the model; see `training.flops`."""
        network = self.blueprint.architecture.network
        return flops.train_flops(flops.batch_flops(network, self.blueprint.infos, self.batch))
