"""What is planned: a run's steps, compiled for a topology."""

import dataclasses

from archobj_jax.architectures.architecture import Architecture
from archobj_jax.data.loader import DatasetConfig
from archobj_jax.partitioning.partitioner import Partitioner
from archobj_jax.partitioning.rules import LogicalAxisRules
from archobj_jax.planning.steps import PlannedStep, training_step
from archobj_jax.planning.topology import Topology
from archobj_jax.training.prepared import PreparedStep
from archobj_jax.training.trainer import Trainer


@dataclasses.dataclass(frozen=True)
class Run:
    """Model, batches, step and mesh, as `archobj train` is given them.

    Attributes:
      model: architecture and network.
      dataset: sizes of a batch; no data is read.
      trainer: optimizer, loss, microbatches.
      partitioner: the mesh.
      seed: of dropout.
    """

    model: Architecture
    dataset: DatasetConfig
    trainer: Trainer
    partitioner: Partitioner
    seed: int = 0

    def rules(self, topology: Topology) -> LogicalAxisRules:
        """The rules on the mesh over the chips of `topology`.

        Raises:
          UserError: the mesh does not fill them.
        """
        return self.partitioner.logical_axis_rules(self.partitioner.mesh(topology.devices))

    def prepared(self, topology: Topology) -> PreparedStep:
        """The training step, laid on the chips of `topology`.

        Raises:
          UserError: mesh, batch or microbatches do not divide.
        """
        return PreparedStep.of(self.model, self.dataset, self.trainer, self.rules(topology))

    def training_step(self, topology: Topology) -> PlannedStep:
        """The same, to be compiled."""
        return training_step(self.prepared(topology), self.seed)
