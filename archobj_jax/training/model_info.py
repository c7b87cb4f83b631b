"""model-info.txt: every parameter, how it is sharded, and what the model takes."""

import math

import jax
from jax.sharding import Mesh

from archobj_jax.partitioning.arrangement import slice_count
from archobj_jax.tables import readable_bytes, table
from archobj_jax.training.prepared import PreparedStep
from archobj_jax.training.state import per_device_bytes


def model_info(prepared: PreparedStep) -> str:
    """The table of parameters, the mesh, and bytes on each device."""
    blueprint = prepared.blueprint
    rows: list[tuple[str, ...]] = [
        ("parameter", "shape", "logical axes", "partition", "initializer")
    ]
    for info in blueprint.infos:
        spec = blueprint.rules.spec(info.shape, info.logical_axes)
        parts = ["+".join(p) if isinstance(p, tuple) else p or "-" for p in spec]
        rows.append(
            (
                info.name,
                " x ".join(map(str, info.shape)),
                ", ".join(info.logical_axes),
                ", ".join(parts),
                info.initializer,
            )
        )
    mesh = blueprint.rules.mesh.shape
    axes = ", ".join(f"{axis}={size}" for axis, size in mesh.items())
    memory = {
        "parameters": per_device_bytes(prepared.state.params),
        "optimizer state": per_device_bytes(prepared.state.opt_state),
        "a batch": per_device_bytes(prepared.batch),
    }
    lines = [
        table(rows),
        "",
        f"architecture     {type(blueprint.architecture).__name__}"
        f" ({blueprint.architecture.symbol})",
        f"parameters       {blueprint.parameter_count:,}",
        f"not sharded      {blueprint.unsharded_share():.2%} of the parameters",
        f"mesh             {axes} ({math.prod(mesh.values())} devices{_slices(prepared)})",
        "on each device   "
        + ", ".join(f"{name} {readable_bytes(size)}" for name, size in memory.items()),
    ]
    return "\n".join(lines) + "\n"


def _slices(prepared: PreparedStep) -> str:
    """How the data axis falls into slices, if there are several; what there is, if too few."""
    mesh = prepared.blueprint.rules.mesh
    if not isinstance(mesh, Mesh):
        return f"; there are {jax.device_count()} here, by which an axis of -1 was resolved"
    slices = slice_count(list(mesh.devices.flat))
    return f"; data={slices} slices x {mesh.shape['data'] // slices}" if slices > 1 else ""
