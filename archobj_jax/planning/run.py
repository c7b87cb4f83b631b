"""What is planned: a run's step, compiled for a topology."""

import dataclasses
import sys

import jax

from archobj_jax.architectures.architecture import Architecture
from archobj_jax.data.loader import DatasetConfig
from archobj_jax.native_messages import held_back
from archobj_jax.partitioning.partitioner import Partitioner
from archobj_jax.planning import compiled
from archobj_jax.planning.compiled import CompiledStep
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

    def prepared(self, topology: Topology) -> PreparedStep:
        """The step, laid on the chips of `topology`.

        Raises:
          UserError: mesh, batch or microbatches do not divide.
        """
        mesh = self.partitioner.mesh(topology.devices)
        rules = self.partitioner.logical_axis_rules(mesh)
        return PreparedStep.of(self.model, self.dataset, self.trainer, rules)

    def compiled(self, topology: Topology, cache_dir: str | None) -> CompiledStep:
        """The compiled step, from `cache_dir` if it is there; None keeps none.

        Raises:
          UserError: as `prepared`.
        """
        prepared = self.prepared(topology)
        data = (self.dataset.batch_size, sorted(self.dataset.task_feature_lengths.items()))
        name = compiled.key(topology, self.model, data, self.trainer, self.partitioner, self.seed)
        mesh = ", ".join(f"{axis}={n}" for axis, n in prepared.blueprint.rules.mesh.shape.items())
        where = (
            f"{topology.name} ({mesh}; {self.trainer.num_microbatches} microbatches, "
            f"remat {self.model.network.remat_policy})"
        )

        def compile_it() -> jax.stages.Compiled:
            print(f"Compiling for {where}.", file=sys.stderr, flush=True)
            with held_back():
                return prepared.compiled(self.seed)

        return compiled.compiled_step(compile_it, name, cache_dir)
