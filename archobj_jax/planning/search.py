"""`archobj plan --search`: layouts ordered by a cost model, the first of them compiled."""

import dataclasses
from collections.abc import Iterator

from archobj_jax.architectures.network import REMAT_POLICIES
from archobj_jax.errors import UserError
from archobj_jax.partitioning.partitioner import Partitioner
from archobj_jax.planning.costs import Cost, cost
from archobj_jax.planning.figures import Figures, figures
from archobj_jax.planning.run import Run
from archobj_jax.planning.topology import Topology
from archobj_jax.tables import table

HBM_SHARE = 0.92
"""Of a chip's memory that a chosen layout takes at most: the rest is for what a step is not."""
_TENSOR = (1, 2, 4, 8, 16)
_MICROBATCHES = (1, 2, 4, 8, 16, 32)
_SLACK = 1.1
"""What the cost model says of memory may be so much too high."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A layout, what the cost model says of it, and what the compiler.

    Attributes:
      run: the run, laid out so.
      estimate: the cost model's.
      figures: the compiler's; None if it was not asked or the step does not fit.
      needed: bytes of HBM a chip by the compiler; 0 if it was not asked.
    """

    run: Run
    estimate: Cost
    figures: Figures | None = None
    needed: float = 0.0

    def fits(self) -> bool:
        """Whether it was compiled and leaves room."""
        return self.figures is not None and self.figures.hbm <= HBM_SHARE * self.figures.hbm_limit


def search(run: Run, topology: Topology, *, tries: int, cache_dir: str | None) -> list[Candidate]:
    """Layouts of `run` on `topology`, the best first, then those that were compiled for nothing.

    Raises:
      UserError: nothing fits.
    """
    ordered = sorted(candidates(run, topology), key=lambda each: each.estimate.seconds)
    limit = _SLACK * topology.chip.hbm_bytes
    promising = [each for each in ordered if each.estimate.hbm <= limit]
    compiled = [_compiled(each, topology, cache_dir) for each in promising[:tries]]
    if not any(each.fits() for each in compiled):
        # The model was too hopeful of memory: what it thinks smallest is the last resort.
        smallest = sorted(promising, key=lambda each: each.estimate.hbm)[:tries]
        compiled += [_compiled(each, topology, cache_dir) for each in smallest]
    if not any(each.fits() for each in compiled):
        raise UserError(
            f"no layout of this run fits {topology.name}; the compiler was asked for "
            f"{len(compiled)} of {len(ordered)}:\n{trial_table(compiled, topology)}"
        )
    return sorted(compiled, key=_rank)


def _rank(candidate: Candidate) -> tuple[bool, float]:
    step = candidate.figures.roofline.step if candidate.figures else float("inf")
    return not candidate.fits(), step


def candidates(run: Run, topology: Topology) -> Iterator[Candidate]:
    """Every mesh of powers of two, remat policy and number of microbatches that divides.

    The sequence axis stays as the run has it.
    """
    given = run.partitioner
    chips, rest = divmod(len(topology.devices), max(given.sequence, 1))
    for tensor in _TENSOR:
        if run.model.network.kv_heads % tensor:
            continue
        for data in _divisors_by_two(chips // tensor if chips % tensor == rest == 0 else 0):
            partitioner = Partitioner(
                data=data,
                fsdp=chips // tensor // data,
                sequence=given.sequence,
                tensor=tensor,
                rules=given.rules,
                largest_unsharded_bytes=given.largest_unsharded_bytes,
            )
            base = dataclasses.replace(run, partitioner=partitioner)
            try:
                step = laid_out(base, "none", 1).prepared(topology)
            except UserError:  # The mesh leaves no whole rows, or crosses slices.
                continue
            for count in _MICROBATCHES:
                try:
                    step.placement.check_microbatches(count)
                except UserError:
                    break
                for remat in REMAT_POLICIES:
                    estimate = cost(step, topology, remat=remat, microbatches=count)
                    yield Candidate(laid_out(base, remat, count), estimate)


def laid_out(run: Run, remat: str, microbatches: int) -> Run:
    """`run` with another remat policy and number of microbatches."""
    network = dataclasses.replace(run.model.network, remat_policy=remat)  # type: ignore[arg-type]
    return dataclasses.replace(
        run,
        model=dataclasses.replace(run.model, network=network),
        trainer=dataclasses.replace(run.trainer, num_microbatches=microbatches),
    )


def _divisors_by_two(number: int) -> list[int]:
    return [2**k for k in range(number.bit_length()) if number and number % 2**k == 0]


def _compiled(candidate: Candidate, topology: Topology, cache_dir: str | None) -> Candidate:
    step = candidate.run.compiled(topology, cache_dir)
    made = figures(candidate.run.prepared(topology), step, topology) if step.fits else None
    return dataclasses.replace(candidate, figures=made, needed=step.hbm_bytes)


def trial_table(tried: list[Candidate], topology: Topology) -> str:
    """What was tried, a line each."""
    head = ("data", "fsdp", "tensor", "remat", "microbatches")
    rows = [(*head, "estimated s", "HBM GiB", "collectives GiB", "step s", "of peak", "compile s")]
    for each in tried:
        mesh, made = each.run.partitioner, each.figures
        rows.append(
            (
                str(mesh.data), str(mesh.fsdp), str(mesh.tensor),
                each.run.model.network.remat_policy, str(each.run.trainer.num_microbatches),
                f"{each.estimate.seconds:.3f}", f"{each.needed / 2**30:.2f}",
                *(("-", "does not fit", "-", "-") if made is None else (
                    f"{sum(made.collectives.values()) / 2**30:.1f}", f"{made.roofline.step:.3f}",
                    f"{made.share_of_peak:.1%}", f"{made.compile_seconds:.0f}")),
            )
        )  # fmt: skip
    limit = topology.chip.hbm_bytes / 2**30
    return table(rows, numbers_from=0) + f"\n({limit:.2f} GiB a chip; at most {HBM_SHARE:.0%})"


def gin_text(chosen: Candidate, topology: Topology) -> str:
    """The chosen layout as a gin file, to be given after the experiment's."""
    run, made = chosen.run, chosen.figures
    assert made is not None
    network = run.model.network
    slices = f"{topology.slices} x " if topology.slices > 1 else ""
    return f"""\
# {run.model.symbol} on {slices}{topology.name}: {made.hbm / 2**30:.2f} of \
{made.hbm_limit / 2**30:.2f} GiB a chip, predicted {made.roofline.step:.2f} s a step,
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
