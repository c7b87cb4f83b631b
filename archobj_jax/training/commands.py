"""`archobj lineage`."""

from archobj_jax.tables import table
from archobj_jax.training import restoring
from archobj_jax.training.lineage import counted, notation, stages_of

_HEADER = ("stage", "model", "steps", "tokens", "config", "data", "run")


def lineage(*, path: str) -> None:
    """Prints where a checkpoint comes from: the paper's notation, then a line for each stage.

    Raises:
      UserError: there is no checkpoint at `path`.
      MachineError: it is damaged.
    """
    found = restoring.find_checkpoint(path, binding="PATH")
    stages = stages_of(restoring.read_about(found), where=str(found))
    rows = [_HEADER] + [
        (
            stage.stage,
            stage.pair,
            f"{stage.start_step:,} to {stage.step:,}",
            counted(stage.tokens),
            stage.config,
            stage.data,
            stage.run,
        )
        for stage in stages
    ]
    print(f"{notation(stages)}\n\n{table(rows)}")
