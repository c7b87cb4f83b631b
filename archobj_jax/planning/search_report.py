"""What a search found, as a table and as a gin file."""

from archobj_jax.planning.search import HBM_SHARE, Candidate, Search
from archobj_jax.planning.topology import Topology
from archobj_jax.tables import table


def table_of(found: Search, topology: Topology) -> str:
    """What was compiled, a line each, and what was not."""
    head = ("data", "fsdp", "tensor", "remat", "microbatches")
    rows = [("", *head, "estimated s", "HBM GiB", "", "collectives GiB", "step s", "of own",
             "of peak", "compile s")]  # fmt: skip
    own = found.own.figures if found.own else None
    for each in [*([found.own] if found.own else []), *found.tried]:
        mesh, made = each.run.partitioner, each.figures
        known = ("-", "-", "-", "-", "-")
        if made is not None:
            known = (
                f"{sum(made.collectives.values()) / 2**30:.1f}",
                f"{made.roofline.step:.4g}",
                "-" if own is None else f"{made.roofline.step / own.roofline.step:.2f}",
                f"{made.share_of_peak:.1%}",
                f"{made.compile_seconds:.0f}",
            )
        rows.append(
            (
                "the run's own" if each is found.own else "",
                str(mesh.data), str(mesh.fsdp), str(mesh.tensor),
                each.run.model.network.remat_policy, str(each.run.trainer.num_microbatches),
                f"{each.estimate.seconds:.4g}", f"{each.needed / 2**30:.2f}",
                _verdict(each, found), *known,
            )
        )  # fmt: skip
    slower = found.considered - found.too_large - len(found.tried)
    notes = [
        f"{topology.chip.hbm_bytes / 2**30:.2f} GiB a chip, of which a layout may take "
        f"{HBM_SHARE:.0%}. Not compiled: {found.too_large} layouts that are too large and {slower} "
        "that are slower by the cost model."
    ]
    if found.own is None:
        notes.append(f"The run's own layout is not on these chips: {found.why_not}")
    return "\n".join([table(rows, numbers_from=1), *notes])


def _verdict(candidate: Candidate, found: Search) -> str:
    if candidate is found.best:
        return "the best"
    return "slower" if candidate.fits() and candidate is not found.own else candidate.verdict


def gin_text(chosen: Candidate, topology: Topology) -> str:
    """The chosen layout as a gin file, to be given after the experiment's."""
    run, made = chosen.run, chosen.figures
    assert made is not None
    network = run.model.network
    slices = f"{topology.slices} x " if topology.slices > 1 else ""
    return f"""\
# {run.model.symbol} on {slices}{topology.name}: {made.hbm / 2**30:.2f} of \
{made.hbm_limit / 2**30:.2f} GiB a chip, predicted {made.roofline.step:.3g} s a step,
# {made.share_of_peak:.0%} of peak. Found by `archobj plan --search`; give it after the experiment.
from __gin__ import dynamic_registration

from archobj_jax.architectures import network
from archobj_jax.partitioning import partitioner
from archobj_jax.training import trainer

partitioner.Partitioner:
  data = {run.partitioner.data}
  fsdp = {run.partitioner.fsdp}
  sequence = {run.partitioner.sequence}
  tensor = {run.partitioner.tensor}
  num_partitions = None
  model_parallel_submesh = None

network.NetworkConfig:
  dtype = "{network.dtype}"
  remat_policy = "{network.remat_policy}"

trainer.Trainer.num_microbatches = {run.trainer.num_microbatches}
"""
