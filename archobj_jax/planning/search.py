"""`archobj plan --search`: layouts ordered by a cost model, the first of them compiled."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from archobj_jax.architectures.network import REMAT_POLICIES
from archobj_jax.errors import UserError
from archobj_jax.partitioning.partitioner import Partitioner
from archobj_jax.planning.compiled import compiled_step
from archobj_jax.planning.costs import Cost, cost
from archobj_jax.planning.figures import Figures, figures
from archobj_jax.planning.run import Run
from archobj_jax.planning.topology import Topology

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

    @property
    def verdict(self) -> str:
        """Why it is not taken, or that it could be."""
        if self.figures is None:
            return "does not fit"
        return "fits" if self.fits() else f"over {HBM_SHARE:.0%} of HBM"


@dataclasses.dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes:
      tried: the layouts that were compiled, the best first, then those that do not fit.
      own: the layout that the run has by itself, compiled to compare with; None if it cannot be
        laid on the chips.
      why_not: why it cannot.
      considered: layouts that the cost model saw.
      too_large: those of them that it left out for their memory.
    """

    tried: list[Candidate]
    own: Candidate | None
    why_not: str
    considered: int
    too_large: int

    @property
    def best(self) -> Candidate | None:
        """The fastest that fits."""
        return next((each for each in self.tried if each.fits()), None)

    def as_json(self) -> dict[str, Any]:
        """The best layout and its predicted time against that of the run's own."""
        own = None if self.own is None else self.own.figures
        best = None if self.best is None else self.best.figures
        ratio = best.roofline.step / own.roofline.step if best and own else None
        return {
            "layouts_considered": self.considered,
            "layouts_too_large_by_estimate": self.too_large,
            "layouts_compiled": len(self.tried),
            "own_layout": self.why_not if self.own is None else self.own.verdict,
            "own_layout_hbm_total": None if self.own is None else self.own.needed,
            "own_layout_step_seconds": None if own is None else own.roofline.step,
            "ratio_to_own_layout": ratio,
        }


def search(run: Run, topology: Topology, *, tries: int, cache_dir: str | None) -> Search:
    """Looks for the layout of `run` on `topology` that fits and is predicted to be fastest.

    Args:
      run: what is to be laid out.
      topology: the chips.
      tries: layouts to compile, and as many more if none of them fits.
      cache_dir: where what was compiled is kept; None keeps none.
    """
    ordered = sorted(candidates(run, topology), key=lambda each: each.estimate.seconds)
    limit = _SLACK * topology.chip.hbm_bytes
    promising = [each for each in ordered if each.estimate.hbm <= limit]
    compiled = [_compiled(each, topology, cache_dir) for each in promising[:tries]]
    if not any(each.fits() for each in compiled):
        # The model was too hopeful of memory: what it thinks smallest is the last resort.
        rest = sorted(promising[tries:], key=lambda each: each.estimate.hbm)
        compiled += [_compiled(each, topology, cache_dir) for each in rest[:tries]]
    why_not, own = "", None
    try:
        own = _compiled(_own(run, topology), topology, cache_dir)
    except UserError as error:
        why_not = str(error)
    tried = sorted(compiled, key=_rank)
    return Search(tried, own, why_not, len(ordered), len(ordered) - len(promising))


def _own(run: Run, topology: Topology) -> Candidate:
    step, count = run.prepared(topology), run.trainer.num_microbatches
    remat = run.model.network.remat_policy
    partitioner = dataclasses.replace(run.partitioner, **step.blueprint.rules.mesh.shape)
    estimate = cost(step, topology, remat=remat, microbatches=count)
    return Candidate(dataclasses.replace(run, partitioner=partitioner), estimate)


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
    step = candidate.run.training_step(topology)
    made = compiled_step(step, topology, cache_dir)
    found = figures(step, made, topology) if made.fits else None
    return dataclasses.replace(candidate, figures=found, needed=made.hbm_bytes)
