"""`archobj plan`: what a training run would take on TPUs, asked of their compiler."""

from json import dumps

from etils import epath

from archobj_jax.architectures.architecture import Architecture
from archobj_jax.data.loader import DatasetConfig
from archobj_jax.errors import UserError
from archobj_jax.partitioning.partitioner import Partitioner
from archobj_jax.planning import report
from archobj_jax.planning.compiled import DEFAULT_CACHE_DIR
from archobj_jax.planning.figures import Figures, figures
from archobj_jax.planning.run import Run
from archobj_jax.planning.search import gin_text, trial_table
from archobj_jax.planning.search import search as search_plans
from archobj_jax.planning.topology import Topology, topology_of
from archobj_jax.training.reporting import write_text
from archobj_jax.training.trainer import Trainer


def plan(
    *,
    model: Architecture,
    train_dataset: DatasetConfig,
    trainer: Trainer,
    partitioner: Partitioner = Partitioner(),
    total_steps: int,
    random_seed: int = 0,
    topology: str,
    slices: int = 1,
    search: bool = False,
    tries: int = 4,
    output: str = "runs/plans/best.gin",
    json: str | None = None,
    plan_cache_dir: str | None = DEFAULT_CACHE_DIR,
) -> None:
    """Compiles a run's training step for `topology` and prints what it takes.

    Args:
      model: architecture and network.
      train_dataset: sizes of a batch; no data is read.
      trainer: optimizer, loss, microbatches.
      partitioner: the mesh; several slices lie along its data axis.
      total_steps: of the run, for the chip-hours.
      random_seed: of dropout.
      topology: chips of a slice, GENERATION:AxBxC.
      slices: how many slices.
      search: whether to look for the best mesh, remat policy and number of microbatches instead of
        taking the run's.
      tries: layouts that a search compiles.
      output: gin file that a search writes the best to.
      json: file that the figures are written to as JSON; None writes none.
      plan_cache_dir: where what was compiled is kept; None keeps none.

    Raises:
      UserError: no such topology, no libtpu, a mesh or a batch that does not divide, or a step that
        does not fit.
    """
    chips = topology_of(topology, slices)
    run = Run(model, train_dataset, trainer, partitioner, random_seed)
    if search:
        found = search_plans(run, chips, tries=tries, cache_dir=plan_cache_dir)
        write_text(epath.Path(output), gin_text(found[0], chips))
        print(f"{trial_table(found, chips)}\n\nThe best, written to {output}:\n")
        run = found[0].run
    made = planned(run, chips, plan_cache_dir)
    print(
        report.text(
            made,
            steps=total_steps,
            microbatches=run.trainer.num_microbatches,
            remat_policy=run.model.network.remat_policy,
        )
    )
    if json is not None:
        write_text(epath.Path(json), dumps(made.as_json(total_steps), indent=2) + "\n")


def planned(run: Run, topology: Topology, cache_dir: str | None) -> Figures:
    """The figures of `run` on `topology`.

    Raises:
      UserError: the step does not fit, or cannot be laid out.
    """
    step = run.compiled(topology, cache_dir)
    if not step.fits:
        raise UserError(
            f"the step does not fit: it needs {step.needed / 2**30:.2f} GiB of HBM a chip, and "
            f"{topology.name} has {topology.chip.hbm_bytes / 2**30:.2f}. More "
            "Trainer.num_microbatches, NetworkConfig.remat_policy = 'full' or a larger "
            "Partitioner.fsdp take less; --search finds what fits."
        )
    return figures(run.prepared(topology), step, topology)
