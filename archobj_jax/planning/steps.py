"""What is planned: steps laid on the chips of a topology, before they are compiled."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
from jax.sharding import Mesh

from archobj_jax.architectures.architecture import Architecture
from archobj_jax.data.loader import DatasetConfig
from archobj_jax.partitioning.rules import LogicalAxisRules
from archobj_jax.training import flops
from archobj_jax.training.placement import Placement
from archobj_jax.training.prepared import PreparedStep
from archobj_jax.training.state import Blueprint, per_device_bytes
from archobj_jax.training.trainer import Trainer


@dataclasses.dataclass(frozen=True)
class PlannedStep:
    """A step to be compiled, and what is known of it before.

    Attributes:
      name: short, of its kind: "train".
      title: what one run of it does.
      mesh: what it lies on.
      lower: traces it.
      given: bytes a chip of what it is given, by kind.
      flops: operations that the model needs for it, on all chips together.
      rows: sequences that it gets through; part of them where they take several runs.
      tokens: positions that it reads, padding included.
      unbounded: how often a loop of it is taken to run whose end depends on data; None has none.
    """

    name: str
    title: str
    mesh: Mesh
    lower: Callable[[], jax.stages.Lowered]
    given: Mapping[str, int]
    flops: float
    rows: float
    tokens: int
    unbounded: int | None = None


def training_step(prepared: PreparedStep, seed: int) -> PlannedStep:
    """The step that `archobj train` repeats."""
    state, count = prepared.state, prepared.trainer.num_microbatches
    parts = "1 microbatch" if count == 1 else f"{count} microbatches"
    remat = prepared.blueprint.architecture.network.remat_policy
    return PlannedStep(
        name="train",
        title=f"training step, {prepared.placement.batch_size} rows; {parts}, remat {remat}",
        mesh=mesh_of(prepared.blueprint),
        lower=lambda: prepared.lowered(seed),
        given={
            "parameters": per_device_bytes(state.params),
            "optimizer state": per_device_bytes((state.step, state.opt_state)),
            "a batch": per_device_bytes(prepared.batch),
        },
        flops=prepared.flops(),
        rows=prepared.placement.batch_size,
        tokens=prepared.tokens,
    )


def held_out_step(
    model: Architecture, dataset: DatasetConfig, trainer: Trainer, rules: LogicalAxisRules
) -> PlannedStep:
    """The step that evaluates held-out loss during training.

    Raises:
      UserError: the batch does not divide over the mesh.
    """
    blueprint = Blueprint.of(model, rules)
    placement = Placement.of(rules, dataset.batch_size)
    batch = placement.abstract(model.layout, dataset.task_feature_lengths)
    params = blueprint.abstract_params()
    return PlannedStep(
        name="evaluate",
        title=f"held-out loss of {placement.batch_size} rows",
        mesh=mesh_of(blueprint),
        lower=lambda: jax.jit(trainer.eval_step(blueprint)).lower(params, batch),
        given={"parameters": per_device_bytes(params), "a batch": per_device_bytes(batch)},
        flops=flops.batch_flops(model.network, blueprint.infos, batch),
        rows=placement.batch_size,
        tokens=flops.positions(batch),
    )


def mesh_of(blueprint: Blueprint) -> Mesh:
    """The mesh with its devices."""
    mesh = blueprint.rules.mesh
    assert isinstance(mesh, Mesh)
    return mesh
