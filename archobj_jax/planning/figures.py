"""The figures of a plan, from what the compiler made of its step."""

import dataclasses
from typing import Any

import jax

from archobj_jax.planning import hlo, work
from archobj_jax.planning.collectives import Collective, collectives
from archobj_jax.planning.compiled import CompiledStep
from archobj_jax.planning.roofline import Roofline, first_slice, roofline
from archobj_jax.planning.topology import Topology
from archobj_jax.training.prepared import PreparedStep
from archobj_jax.training.state import per_device_bytes


@dataclasses.dataclass(frozen=True)
class Figures:
    """What one step takes, and what follows for a run.

    Attributes:
      topology, mesh: what it is for.
      memory: bytes of HBM a chip, by kind.
      hbm: bytes of HBM a chip, all together.
      hbm_limit: what a chip has.
      model_flops: operations a step that the model needs, on all chips together.
      compiled_flops: operations of the matrix products that the compiler made, a chip.
      hbm_traffic: bytes over HBM, a chip.
      collectives: bytes a chip, by kind, mesh axes and dtype.
      roofline: seconds of a step.
      compile_seconds: what compiling took.
      tokens: positions a step reads, padding included.
    """

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
    def tokens_per_day(self) -> float:
        """Positions read in a day of steps of the predicted time."""
        return self.tokens * 86400 / self.roofline.step

    def chip_hours(self, steps: int) -> float:
        """Of all chips, for so many steps of the predicted time."""
        return steps * self.roofline.step * self.chips / 3600

    def as_json(self, steps: int) -> dict[str, Any]:
        """All figures, in bytes, seconds and operations."""
        return {
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
            "tokens_per_step": self.tokens,
            "tokens_per_day": self.tokens_per_day,
            "steps": steps,
            "chip_hours": self.chip_hours(steps),
            "compile_seconds": self.compile_seconds,
        }


def figures(prepared: PreparedStep, step: CompiledStep, topology: Topology) -> Figures:
    """The figures of a step that fits."""
    mesh: jax.sharding.Mesh = prepared.blueprint.rules.mesh  # type: ignore[assignment]
    module = hlo.parse(step.hlo)
    within = dict(zip(mesh.axis_names, first_slice(mesh, topology.slices).shape, strict=True))
    exchanged = collectives(module, within)
    computed = work.kernels(module)
    return Figures(
        topology=topology,
        mesh=dict(mesh.shape),
        memory=_memory(prepared, step),
        hbm=step.hbm_bytes,
        hbm_limit=topology.chip.hbm_bytes,
        model_flops=prepared.flops(),
        compiled_flops=sum(kernel.times * kernel.flops for kernel in computed),
        hbm_traffic=sum(kernel.times * kernel.bytes for kernel in computed),
        collectives=_by_kind(exchanged),
        roofline=roofline(computed, exchanged, topology, mesh),
        compile_seconds=step.seconds,
        tokens=prepared.tokens,
    )


def _memory(prepared: PreparedStep, step: CompiledStep) -> dict[str, float]:
    state, memory = prepared.state, step.memory
    known = {
        "parameters": per_device_bytes(state.params),
        "optimizer state": per_device_bytes((state.step, state.opt_state)),
        "a batch": per_device_bytes(prepared.batch),
    }
    return {
        **known,
        # What layouts pad, less what the step does not read; and what it returns beside the state,
        # which is updated in place.
        "padding and metrics": max(
            0, memory["argument"] - sum(known.values()) + memory["output"] - memory["alias"]
        ),
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
