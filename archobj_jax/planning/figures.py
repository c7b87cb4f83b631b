"""The figures of a plan, from what the compiler made of its step."""

import dataclasses
from typing import Any

from archobj_jax.planning import hlo, work
from archobj_jax.planning.collectives import Collective, collectives
from archobj_jax.planning.compiled import CompiledStep
from archobj_jax.planning.roofline import Roofline, first_slice, roofline
from archobj_jax.planning.steps import PlannedStep
from archobj_jax.planning.topology import Topology


@dataclasses.dataclass(frozen=True)
class Figures:
    """What one run of a step takes, and what follows for more of them.

    Attributes:
      name, title: of the step, see `PlannedStep`.
      topology, mesh: what it is for.
      memory: bytes of HBM a chip, by kind.
      hbm: bytes of HBM a chip, all together.
      hbm_limit: what a chip has.
      model_flops: operations that the model needs, on all chips together.
      compiled_flops: operations of the matrix products that the compiler made, a chip.
      hbm_traffic: bytes over HBM, a chip.
      collectives: bytes a chip, by kind, mesh axes and dtype.
      roofline: seconds of a step.
      compile_seconds: what compiling took.
      rows: sequences that a step gets through.
      tokens: positions that it reads, padding included.
    """

    name: str
    title: str
    topology: Topology
    mesh: dict[str, int]
    memory: dict[str, float]
    hbm: float
    hbm_limit: float
    model_flops: float
    compiled_flops: float
    hbm_traffic: float
    collectives: dict[tuple[str, str, str], float]
    roofline: Roofline
    compile_seconds: float
    rows: float
    tokens: int

    @property
    def chips(self) -> int:
        """Chips of all slices."""
        return len(self.topology.devices)

    @property
    def share_of_peak(self) -> float:
        """The model's operations in the predicted time, as a share of what the chips can do."""
        return self._share(self.roofline.step)

    @property
    def share_of_peak_modelled(self) -> float:
        """The same by the compiler's figures for kernels."""
        return self._share(self.roofline.modelled_step)

    @property
    def share_of_peak_bound(self) -> float:
        """The same if everything overlapped."""
        return self._share(self.roofline.bound)

    def _share(self, seconds: float) -> float:
        return self.model_flops / (self.chips * self.topology.chip.peak_flops * seconds)

    @property
    def share_of_hbm_bandwidth(self) -> float:
        """Bytes over HBM in the predicted time, as a share of what a chip can move."""
        return self.roofline.hbm / self.roofline.step

    @property
    def tokens_per_second(self) -> float:
        """Positions read in a second of steps of the predicted time, on all chips together."""
        return self.tokens / self.roofline.step

    @property
    def rows_per_second(self) -> float:
        """Sequences got through in a second of steps of the predicted time, on all chips."""
        return self.rows / self.roofline.step

    def chip_hours(self, steps: int) -> float:
        """Of all chips, for so many steps of the predicted time."""
        return steps * self.roofline.step * self.chips / 3600

    def as_json(self) -> dict[str, Any]:
        """All figures, in bytes, seconds and operations."""
        return {
            "step": self.name,
            "title": self.title,
            "topology": self.topology.name,
            "slices": self.topology.slices,
            "chips": self.chips,
            "mesh": self.mesh,
            "hbm": self.memory,
            "hbm_total": self.hbm,
            "hbm_limit": self.hbm_limit,
            "model_flops": self.model_flops,
            "compiled_flops_per_chip": self.compiled_flops,
            "hbm_traffic_per_chip": self.hbm_traffic,
            "collectives": [
                {"kind": kind, "axes": axes, "dtype": dtype, "bytes_per_chip": size}
                for (kind, axes, dtype), size in self.collectives.items()
            ],
            "seconds": {
                **dataclasses.asdict(self.roofline),
                "bound": self.roofline.bound,
                "step": self.roofline.step,
                "modelled_step": self.roofline.modelled_step,
            },
            "share_of_peak": self.share_of_peak,
            "share_of_peak_modelled": self.share_of_peak_modelled,
            "share_of_peak_bound": self.share_of_peak_bound,
            "share_of_hbm_bandwidth": self.share_of_hbm_bandwidth,
            "bound_by": self.roofline.bound_by,
            "rows_per_step": self.rows,
            "rows_per_second": self.rows_per_second,
            "tokens_per_step": self.tokens,
            "tokens_per_second": self.tokens_per_second,
            "compile_seconds": self.compile_seconds,
        }

    def training_json(self, steps: int) -> dict[str, float]:
        """What a run of so many training steps takes."""
        return {
            "tokens_per_day": self.tokens_per_second * 86400,
            "steps": steps,
            "chip_hours": self.chip_hours(steps),
        }


def figures(step: PlannedStep, made: CompiledStep, topology: Topology) -> Figures:
    """The figures of a step that fits."""
    module = hlo.parse(made.hlo, step.unbounded)
    shape = first_slice(step.mesh, topology.slices).shape
    exchanged = collectives(module, dict(zip(step.mesh.axis_names, shape, strict=True)))
    computed = work.kernels(module)
    return Figures(
        name=step.name,
        title=step.title,
        topology=topology,
        mesh=dict(step.mesh.shape),
        memory=_memory(step, made),
        hbm=made.hbm_bytes,
        hbm_limit=topology.chip.hbm_bytes,
        model_flops=step.flops,
        compiled_flops=sum(kernel.times * kernel.flops for kernel in computed),
        hbm_traffic=sum(kernel.times * kernel.bytes for kernel in computed),
        collectives=_by_kind(exchanged),
        roofline=roofline(computed, exchanged, topology, step.mesh),
        compile_seconds=made.seconds,
        rows=step.rows,
        tokens=step.tokens,
    )


def _memory(step: PlannedStep, made: CompiledStep) -> dict[str, float]:
    memory = made.memory
    returned = memory["output"] - memory["alias"]
    return {
        **step.given,
        # What layouts pad, less what the step does not read; and what it returns beside what it
        # updates in place.
        "padding and results": max(0, memory["argument"] - sum(step.given.values()) + returned),
        "activations and temporaries": memory["temporaries"],
        "program": memory["program"],
    }


def _by_kind(exchanged: list[Collective]) -> dict[tuple[str, str, str], float]:
    total: dict[tuple[str, str, str], float] = {}
    for each in exchanged:
        axes = "+".join(each.axes) + (" (DCN)" if each.between_slices else "")
        name = (each.kind, axes, each.dtype)
        total[name] = total.get(name, 0.0) + each.bytes
    return dict(sorted(total.items(), key=lambda item: -item[1]))
