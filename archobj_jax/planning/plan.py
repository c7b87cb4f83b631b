"""`archobj plan`: what a run would take on TPUs, asked of their compiler."""

from collections.abc import Sequence
from json import dumps
from typing import Any

from etils import epath

from archobj_jax.architectures.architecture import Architecture
from archobj_jax.data.loader import DatasetConfig
from archobj_jax.errors import UserError, did_you_mean
from archobj_jax.partitioning.partitioner import Partitioner
from archobj_jax.planning import report
from archobj_jax.planning.compiled import DEFAULT_CACHE_DIR, compiled_step
from archobj_jax.planning.figures import Figures, figures
from archobj_jax.planning.inference_steps import InferenceSizes, generation_steps, scoring_step
from archobj_jax.planning.run import Run
from archobj_jax.planning.search import search as search_plans
from archobj_jax.planning.search_report import gin_text, table_of
from archobj_jax.planning.steps import PlannedStep, held_out_step
from archobj_jax.planning.topology import Topology, topology_of
from archobj_jax.training.reporting import write_text
from archobj_jax.training.state import Blueprint
from archobj_jax.training.trainer import Trainer

STEPS = ("train", "evaluate", "score", "generate")


def plan(
    *,
    model: Architecture,
    train_dataset: DatasetConfig,
    train_eval_dataset: DatasetConfig,
    inference: InferenceSizes,
    trainer: Trainer,
    partitioner: Partitioner = Partitioner(),
    total_steps: int,
    random_seed: int = 0,
    topology: str,
    slices: int = 1,
    step: str = "train",
    search: bool = False,
    tries: int = 4,
    output: str = "runs/plans/best.gin",
    json: str | None = None,
    plan_cache_dir: str | None = DEFAULT_CACHE_DIR,
) -> None:
    """Compiles steps of a run for `topology` and prints what they take.

    Args:
      model: architecture and network.
      train_dataset: sizes of a batch; no data is read.
      train_eval_dataset: sizes of a batch of held-out data.
      inference: sizes of what is ranked and generated.
      trainer: optimizer, loss, microbatches.
      partitioner: the mesh; several slices lie along its data axis.
      total_steps: of the run, for the chip-hours.
      random_seed: of dropout.
      topology: chips of a slice, GENERATION:AxBxC.
      slices: how many slices.
      step: of `STEPS`; generation has two.
      search: whether to look for the best mesh, remat policy and number of microbatches instead of
        taking the run's.
      tries: layouts that a search compiles.
      output: gin file that a search writes the best to.
      json: file that the figures are written to as JSON; None writes none.
      plan_cache_dir: where what was compiled is kept; None keeps none.

    Raises:
      UserError: no such step or topology, no libtpu, a mesh or a batch that does not divide, or a
        step that does not fit.
    """
    if step not in STEPS:
        raise UserError(
            f"--step={step}: must be one of {', '.join(STEPS)}.{did_you_mean(step, STEPS)}"
        )
    if search and step != "train":
        raise UserError(f"--search looks for a layout to train with; it has no --step={step}.")
    chips = topology_of(topology, slices)
    run = Run(model, train_dataset, trainer, partitioner, random_seed)
    searched: dict[str, Any] = {}
    if search:
        found = search_plans(run, chips, tries=tries, cache_dir=plan_cache_dir)
        if found.best is None:
            raise UserError(f"no layout of this run fits {topology}:\n{table_of(found, chips)}")
        write_text(epath.Path(output), gin_text(found.best, chips))
        print(f"{table_of(found, chips)}\n\nThe best, written to {output}:\n")
        run, searched = found.best.run, {"search": found.as_json()}
    made = [
        planned(each, chips, plan_cache_dir)
        for each in _steps(step, run, chips, train_eval_dataset, inference)
    ]
    print("\n\n".join(map(report.text, made)))
    record: dict[str, Any] = {each.name: each.as_json() for each in made}
    if step == "train":
        print(f"\n{report.training_text(made[0], total_steps)}")
        layout = {
            "num_microbatches": run.trainer.num_microbatches,
            "remat_policy": run.model.network.remat_policy,
        }
        record = made[0].as_json() | made[0].training_json(total_steps) | layout | searched
    if json is not None:
        write_text(epath.Path(json), dumps(record, indent=2) + "\n")


def _steps(
    step: str, run: Run, topology: Topology, held_out: DatasetConfig, sizes: InferenceSizes
) -> Sequence[PlannedStep]:
    if step == "train":
        return [run.training_step(topology)]
    rules = run.rules(topology)
    if step == "evaluate":
        return [held_out_step(run.model, held_out, run.trainer, rules)]
    blueprint = Blueprint.of(run.model, rules)
    if step == "score":
        return [scoring_step(blueprint, sizes)]
    return generation_steps(blueprint, sizes)


def planned(step: PlannedStep, topology: Topology, cache_dir: str | None) -> Figures:
    """The figures of `step` on `topology`.

    Raises:
      UserError: the step does not fit.
    """
    made = compiled_step(step, topology, cache_dir)
    if not made.fits:
        raise UserError(
            f"this does not fit: {step.title}. It needs {made.needed / 2**30:.2f} GiB of HBM a "
            f"chip, and {topology.name} has {topology.chip.hbm_bytes / 2**30:.2f}. "
            f"{_LESS[step.name]}"
        )
    return figures(step, made, topology)


_LESS = {
    "train": (
        "More Trainer.num_microbatches, NetworkConfig.remat_policy = 'full' or a larger "
        "Partitioner.fsdp take less; --search finds what fits."
    ),
    "evaluate": "A smaller BATCH_SIZE or a larger Partitioner.fsdp take less.",
    **dict.fromkeys(
        ("score", "prefill", "decode"),
        "A larger Partitioner.fsdp or tensor, fewer InferenceSizes.batch_tokens or shorter "
        "INFER_EVAL_FEATURE_LENGTHS take less.",
    ),
}
